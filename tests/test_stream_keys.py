from __future__ import annotations

import logging
import os
import stat
import time
from pathlib import Path

import pytest
import zmq
from stream_samples import ANY_PORT, connect_with, make_message, proxying

from tracker.cli import _set_up_logging, main
from tracker.errors import StreamError
from tracker.stream.curve import Doorkeeper, warn_if_open
from tracker.stream.keys import make_keys, read_client_keys, read_server_keys
from tracker.stream.publisher import Publisher
from tracker.stream.subscriber import Subscriber

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys", ("alice", "bob"))
    return tmp_path / "keys"


@posix
def test_keys_are_readable_by_their_owner_only_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        assert main(["keys", str(tmp_path / "keys"), "--client", "alice"]) == 0
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["alice.key", "client.key_secret", "server.key", "server.key_secret"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@posix
def test_a_secret_that_others_can_read_is_not_used(keys):
    (keys / "alice" / "client.key_secret").chmod(0o644)
    with pytest.raises(StreamError, match="chmod 600"):
        read_client_keys(keys / "alice")


def test_keys_are_never_replaced_and_clients_can_be_added(keys):
    before = (keys / "server" / "server.key_secret").read_bytes()
    with pytest.raises(StreamError, match="is there already"):
        make_keys(keys, ("alice",))
    make_keys(keys, ("carol",))
    assert (keys / "server" / "server.key_secret").read_bytes() == before
    assert read_server_keys(keys / "server").knows(read_client_keys(keys / "carol").own.public)


@pytest.mark.parametrize("name", ["../evil", "", "a/b", "server", ".hidden", "x" * 100])
def test_names_that_are_no_names_are_refused(tmp_path, name):
    with pytest.raises(StreamError, match="cannot be a client's name"):
        make_keys(tmp_path / "keys", (name,))
    assert not (tmp_path / "keys").exists()


def test_an_empty_name_of_a_folder_is_not_the_current_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["keys", ""]) == 1
    assert capsys.readouterr().err == "error: the folder's name is empty: give one, such as `keys`\n"
    assert list(tmp_path.iterdir()) == []


def test_the_wrong_folder_is_explained(keys, tmp_path):
    with pytest.raises(StreamError, match="holds the keys of a client; name the folder of the server's"):
        read_server_keys(keys / "alice")
    with pytest.raises(StreamError, match="holds the keys of the server; name the folder of the client's"):
        read_client_keys(keys / "server")
    with pytest.raises(StreamError, match="holds several sets of keys"):
        read_server_keys(keys)
    with pytest.raises(StreamError, match="python -m tracker keys FOLDER"):
        read_client_keys(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"\x00" * 9000, b'public-key = "short"', b"public-key=" + b"\xff" * 40])
def test_a_damaged_key_is_named(keys, content):
    (keys / "server" / "clients" / "bob.key").write_bytes(content)
    with pytest.raises(StreamError, match=r"bob\.key is not a key"):
        read_server_keys(keys / "server")


def test_a_secret_is_not_in_any_text(keys):
    secret = read_client_keys(keys / "alice").own.secret.decode()
    assert secret not in repr(read_client_keys(keys / "alice"))


def test_known_clients_listen_and_others_get_nothing(keys, tmp_path, caplog):
    make_keys(tmp_path / "other", ("alice",))
    stranger = tmp_path / "stranger"  # knows the server's public key, but is not known to it
    stranger.mkdir()
    (stranger / "server.key").write_bytes((keys / "alice" / "server.key").read_bytes())
    secret = stranger / "client.key_secret"
    secret.write_bytes((tmp_path / "other" / "alice" / "client.key_secret").read_bytes())
    secret.chmod(0o600)
    with Publisher("tcp://0.0.0.0:*", "simulated", keys=keys / "server") as publisher:
        endpoint = publisher.endpoint.replace("0.0.0.0", "127.0.0.1")
        with (
            Subscriber(endpoint) as plain,
            Subscriber(endpoint, keys=tmp_path / "other" / "alice") as wrong_server,
            Subscriber(endpoint, keys=stranger) as unknown,
            connect_with(publisher, endpoint, keys=keys / "alice") as alice,
            connect_with(publisher, endpoint, keys=keys / "bob") as bob,
        ):
            while alice.receive(0.1) is not None:  # what was published until bob was there
                pass
            for frame in range(1, 31):
                publisher.publish(make_message(frame=frame))
                time.sleep(0.01)
            for known in (alice, bob):
                assert [known.receive(2.0).frame for _ in range(30)] == list(range(1, 31))
            for refused in (plain, wrong_server, unknown):
                assert refused.receive(0) is None
                assert not refused.is_alive()
    assert "not encrypted" not in caplog.text
    assert caplog.text.count("whose key is not in") == 1


def test_each_unknown_key_is_logged_once_and_not_without_end(keys, caplog):
    strangers = [zmq.curve_keypair()[0] for _ in range(120)]
    with zmq.Context() as context:
        doorkeeper = Doorkeeper(context, read_server_keys(keys / "server"))
        try:
            assert doorkeeper.callback("hands", read_client_keys(keys / "alice").own.public)
            assert caplog.text == ""
            for stranger in strangers:
                assert not doorkeeper.callback("hands", stranger)
                assert not doorkeeper.callback("hands", stranger)
        finally:
            doorkeeper.close()
    logged = [record.getMessage() for record in caplog.records]
    assert [line.split()[-1] for line in logged[:100]] == [stranger.decode() for stranger in strangers[:100]]
    assert "further ones are refused without a word" in logged[100]
    assert len(logged) == 101


def test_clients_come_and_go_while_the_tracker_runs(keys):
    with Publisher(ANY_PORT, "simulated", keys=keys / "server") as publisher:
        make_keys(keys, ("carol",))
        with connect_with(publisher, publisher.endpoint, keys=keys / "carol") as carol:
            publisher.publish(make_message(frame=5))
            assert carol.receive(2.0).frame == 5
        (keys / "server" / "clients" / "carol.key").unlink()
        with Subscriber(publisher.endpoint, keys=keys / "carol") as carol:
            for _ in range(30):
                publisher.publish(make_message())
                time.sleep(0.01)
            assert carol.receive(0) is None


def test_a_key_that_is_damaged_while_the_tracker_runs_shuts_out_nobody_else(keys):
    with Publisher(ANY_PORT, "simulated", keys=keys / "server") as publisher:
        (keys / "server" / "clients" / "aaa.key").write_bytes(b"nonsense")
        (keys / "server" / "clients" / "folder.key").mkdir()
        with connect_with(publisher, publisher.endpoint, keys=keys / "alice") as alice:
            publisher.publish(make_message(frame=3))
            assert alice.receive(2.0).frame == 3


def test_keys_work_through_the_proxy_on_both_sides(keys, tmp_path):
    make_keys(tmp_path / "inner", ("proxy",))
    with (
        Publisher(ANY_PORT, "simulated", keys=tmp_path / "inner" / "server") as publisher,
        proxying(
            publisher.endpoint,
            "--bind=tcp://*:*",
            f"--keys={keys / 'server'}",
            f"--tracker-keys={tmp_path / 'inner' / 'proxy'}",
        ) as endpoint,
    ):
        endpoint = endpoint.replace("0.0.0.0", "127.0.0.1")
        with (
            Subscriber(endpoint) as plain,
            connect_with(publisher, endpoint, keys=keys / "alice") as alice,
        ):
            publisher.publish(make_message(frame=9))
            assert alice.receive(2.0).frame == 9
            assert plain.receive(0.1) is None


def test_an_open_endpoint_without_keys_is_one_clear_error(capsys):
    assert main(["run", "--camera", "simulated", "--bind", "tcp://0.0.0.0:5591"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--keys FOLDER" in error
    assert "--insecure" in error


def test_plain_on_an_open_endpoint_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        Publisher("tcp://*:*", "simulated", insecure=True).close()
    assert "not encrypted" in caplog.text


def test_who_can_listen_is_told_also_to_those_who_want_errors_only(caplog):
    loggers = [logging.getLogger(name) for name in (None, "tracker", "tracker.stream.curve")]
    levels = [logger.level for logger in loggers]
    try:
        _set_up_logging(quiet=True, verbose=False)
        warn_if_open("tcp://*:5591", None)
        logging.getLogger("tracker.camera").warning("something else")
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
    assert "not encrypted" in caplog.text
    assert "something else" not in caplog.text


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://*:5591", "tcp://0.0.0.0:5591", "tcp://[::]:5591", "tcp://eth0:5591", "tcp://127.evil.example:5591"],
)
def test_what_is_not_loopback_is_open(endpoint):
    with pytest.raises(StreamError, match="can be reached from the network"):
        Publisher(endpoint, "simulated")


def test_garbage_on_the_port_does_not_disturb_known_clients(keys):
    with (
        Publisher(ANY_PORT, "simulated", keys=keys / "server") as publisher,
        connect_with(publisher, publisher.endpoint, keys=keys / "alice") as alice,
        zmq.Context() as context,
        context.socket(zmq.STREAM) as raw,
    ):
        raw.setsockopt(zmq.LINGER, 0)
        raw.connect(publisher.endpoint)
        identity, _ = raw.recv_multipart()
        for _ in range(50):
            raw.send_multipart([identity, os.urandom(1000)])
        publisher.publish(make_message(frame=6))
        assert alice.receive(2.0).frame == 6
