"""`python -m trainer weights`: all weights that the tracker needs, by one command."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tracker import Tracker, TrackerConfig, network
from trainer.cli import main
from trainer.commands import weights
from trainer.commands.arguments import run_in
from trainer.fitting.fit import Fit


def asked(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    weights.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("more", [(), ("--model", "v2v"), ("--init", "shipped"), ("--seed", "7", "--workers", "3")])
def test_each_stage_is_a_command_as_a_person_could_type_it(device, more):
    plan = weights.stages(asked("out", "--hours", "10", *more), device)
    minutes = 0.0
    for stage in plan:
        parser = argparse.ArgumentParser()
        room = import_module(f"trainer.commands.{stage.command[0]}")
        room.add_arguments(parser)
        options = parser.parse_args(stage.command[1:])
        minutes += getattr(options, "minutes", 0)
    assert minutes == pytest.approx(600)
    assert len({stage.name for stage in plan}) == len(plan)
    # What a stage starts from was made before.
    made = {"shipped", "v2v-lite"}
    for stage in plan:
        if "--init" in stage.command:
            start = stage.command[stage.command.index("--init") + 1]
            assert start.removesuffix("/best.safetensors").removeprefix("out/") in made
        made.add(stage.name)


def situations(words: list[str]) -> set[tuple[str, int]]:
    """Of which seed the situations are that a command draws; those of a stream are the cubes' of twice its seed."""
    seed = int(words[words.index("--seed") + 1]) if "--seed" in words else 0
    if words[:2] == ["fit", "scenes"]:
        return {("cubes", 2 * seed)}
    return {({"segment": "images", "synthesize": "cubes"}[words[0]], seed)} if words[0] != "fit" else set()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("more", [(), ("--init", "shipped")])
def test_no_seed_trains_on_situations_of_another_or_of_the_shipped_weights(more, device):
    seen = set()
    for card in ("segmenter", "v2v-lite"):
        told = json.loads((Path(network.__file__).parent / "weights" / f"{card}.json").read_text())
        words = [shlex.split(stage["command"]) for stage in told["stages"]]
        seen |= set().union(*(situations(each[3:]) for each in words if each[3] in ("fit", "segment")))
        notes = " ".join(str(stage.get("note")) for stage in told["stages"])
        seen |= {("cubes", int(seed)) for seed in re.findall(r"synthesize [^`]*--seed (\d+)", notes)}
    assert {("cubes", 22), ("cubes", 60), ("images", 9)} <= seen, "a stream, a folder, segmentation"
    for seed in range(weights.SEEDS):
        for stage in weights.stages(asked("out", "--hours", "1", "--seed", str(seed), *more), device):
            if stage.command[0] != "calibrate" and stage.name != "dev":
                used = situations(list(stage.command))
                assert not used & seen
                seen |= used


def test_weights_are_made_and_a_second_run_goes_on_where_the_first_stopped(tmp_path, capsys, monkeypatch):
    whole = weights.stages
    little = {"segment": ("--dev-situations", "1"), "calibrate": ("--sequences", "4", "--frames", "2")}

    def small(options, device):
        plan = whole(options, device)
        return [weights.Stage(stage.name, (*stage.command, *little.get(stage.command[0], ()))) for stage in plan]

    monkeypatch.setattr(weights, "stages", small)
    monkeypatch.setattr(weights, "DEV_SAMPLES", 8)
    called = []
    call = weights._call

    def noted(command):
        called.append(command)
        if command[0] == "fit" and "--resume" not in command:  # Ctrl-C soon after it has begun
            step = Fit._step

            def first(*args):
                signal.raise_signal(signal.SIGINT)
                return step(*args)

            with monkeypatch.context() as patched:
                patched.setattr(Fit, "_step", first)
                return call(command)
        return call(command)

    monkeypatch.setattr(weights, "_call", noted)
    out = tmp_path / "out"
    words = ["weights", str(out), "--hours", "0.002", "--init", "shipped", "--device", "cpu"]
    assert main(words) == 130
    assert "stopped in stage pose-1; the same command goes on" in capsys.readouterr().err
    assert [command[0] for command in called] == ["segment", "synthesize", "synthesize", "fit"]
    called.clear()
    assert main(words) == 0
    assert [command[0] for command in called] == ["fit", "calibrate"]
    assert called[0][-1] == "--resume"
    assert "--init" not in called[0]
    shown = capsys.readouterr()
    assert f"python -m trainer {shlex.join(called[0])}" in shown.err
    assert f"--model {out}/v2v-lite.safetensors" in shown.out
    for name, last in (("v2v-lite", "fit"), ("segmenter", "segment")):
        card = json.loads((out / f"{name}.json").read_text())
        assert card["command"].startswith(f"python -m trainer {last}")
        assert len(card["made_by"]["stages"]) == 5
        assert card["made_by"]["stages"][-1].startswith("python -m trainer calibrate")
        assert card["config"]
    assert "calibration_error" in json.loads((out / "v2v-lite.json").read_text())["confidence"]
    model, segmentation = str(out / "v2v-lite.safetensors"), str(out / "segmenter.safetensors")
    Tracker(model, config=TrackerConfig(segmentation=segmentation)).close()
    called.clear()
    assert main(words) == 0
    assert not called
    for more, told in ((["--seed", "1"], "--seed 0, not 1"), (["--workers", "2"], "--workers 1, not 2")):
        assert main([*words, *more]) == 1
        assert f"was begun with {told}" in capsys.readouterr().err
    out.rename(tmp_path / "moved")
    assert main(["weights", str(tmp_path / "moved"), *words[2:]]) == 1
    assert f"was begun with OUT_DIR {out}, not {tmp_path / 'moved'}" in capsys.readouterr().err
    assert not out.exists()


def test_a_stage_that_fails_ends_it_with_its_status_and_is_not_done(tmp_path, capsys, monkeypatch):
    status = {"segment": 0, "synthesize": 0, "fit": 3}
    monkeypatch.setattr(weights, "_call", lambda command: status[command[0]])
    words = ["weights", str(tmp_path / "out"), "--hours", "1"]
    assert main(words) == 3
    assert json.loads((tmp_path / "out" / "weights.json").read_text())["done"] == [
        "segment-1",
        "segment-2",
        "dev",
        "scenes",
    ]
    # Without calibration, which may find no hands after a short training, the weights are there to be used.
    status.update(fit=0, calibrate=1)
    for run, shipped in (("segment-2", "segmenter"), ("pose-2", "v2v-lite")):
        (tmp_path / "out" / run).mkdir()
        for ending in ("safetensors", "json"):
            source = Path(network.__file__).parent / "weights" / f"{shipped}.{ending}"
            shutil.copy(source, tmp_path / "out" / run / f"best.{ending}")
    assert main(words) == 1
    assert "can be used without that" in capsys.readouterr().err
    assert (tmp_path / "out" / "v2v-lite.safetensors").is_file()


def test_a_disk_that_was_full_at_first_does_not_spoil_the_folder(tmp_path, capsys):
    words = ["weights", str(tmp_path / "out"), "--hours", "1", "--init", "shipped", "--device", "cpu"]
    command = shlex.join([sys.executable, "-m", "trainer", *words])
    full = subprocess.run(["bash", "-c", f"ulimit -f 0; {command}"], capture_output=True, text=True, timeout=100)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    plan = weights._begun(tmp_path / "out", asked(*words[1:]), "cpu")
    assert plan["done"] == []
    # The segmentation's log may be there, empty, before anything worth keeping is.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").touch()
    assert run_in(tmp_path / "run") == []


def test_a_stop_that_reaches_every_process_keeps_the_work(tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "trainer", "weights", str(out), "--hours", "1", "--init", "shipped"]
    with subprocess.Popen(
        [*command, "--device", "cpu"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:  # the first line of progress: steps are being made
            if "loss" in line:
                break
        os.killpg(process.pid, signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(60) == 130
    assert "stopped in stage segment-1" in said
    assert "Traceback" not in said
    assert json.loads((out / "segment-1" / "last.json").read_text())["steps"] > 0


def test_mistakes_are_told(tmp_path, capsys):
    out = tmp_path / "out"
    for words, told in (
        (["--seed", "35"], "--seed must be from 0 to 34"),
        (["--model", "v2v", "--init", "shipped"], "no weights of v2v are shipped"),
        (["--device", "tpu"], "--device"),
    ):
        assert main(["weights", str(out), "--hours", "1", *words]) == 1
        assert told in capsys.readouterr().err
    assert not out.exists()
    with pytest.raises(SystemExit):
        main(["weights", str(out), "--hours", "-1"])
    out.mkdir()
    (out / "thesis.txt").touch()
    assert main(["weights", str(out), "--hours", "1"]) == 1
    assert "holds other things" in capsys.readouterr().err
    (out / "weights.json").write_text("[1, ")
    assert main(["weights", str(out), "--hours", "1"]) == 1
    assert "damaged" in capsys.readouterr().err
