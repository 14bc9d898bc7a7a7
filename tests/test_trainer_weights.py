"""`python -m trainer weights`: all weights that the tracker needs, by one command."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from importlib import import_module

import pytest

from tracker.hand_tracker import Tracker, TrackerConfig
from trainer.cli import main
from trainer.commands import weights


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


def test_other_seeds_train_on_other_situations():
    def seeds(seed: int) -> set[tuple[str, str]]:
        plan = weights.stages(asked("out", "--hours", "1", "--seed", str(seed)), "cpu")
        return {
            (stage.command[0], stage.command[stage.command.index("--seed") + 1])
            for stage in plan
            if stage.name not in ("dev", "calibrate")
        }

    assert not seeds(3) & seeds(4)


def test_weights_are_made_and_a_second_run_goes_on_where_the_first_stopped(tmp_path, capsys, monkeypatch):
    whole = weights.stages
    little = {"segment": ("--dev-situations", "1"), "calibrate": ("--sequences", "4", "--frames", "2")}

    def small(options, device):
        plan = whole(options, device)
        return [weights.Stage(s.name, (*s.command, *little.get(s.command[0], ())), s.run) for s in plan]

    monkeypatch.setattr(weights, "stages", small)
    monkeypatch.setattr(weights, "DEV_SAMPLES", 8)
    called = []
    call = weights._call

    def noted(command):
        called.append(command)
        # The first time, the hand network's training is stopped when it has kept something.
        return 130 if call(command) or (command[0] == "fit" and "--resume" not in command) else 0

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
    assert f"--model {out}/v2v-lite.safetensors" in capsys.readouterr().out
    for name in ("v2v-lite", "segmenter"):
        card = json.loads((out / f"{name}.json").read_text())
        assert len(card["made_by"]["stages"]) == 5
        assert card["made_by"]["stages"][-1].startswith("python -m trainer calibrate")
        assert card["config"]
    with Tracker(
        str(out / "v2v-lite.safetensors"), config=TrackerConfig(segmentation=str(out / "segmenter.safetensors"))
    ):
        pass
    called.clear()
    assert main(words) == 0
    assert not called
    assert main([*words, "--seed", "1"]) == 1
    assert "was begun by" in capsys.readouterr().err


def test_a_stage_that_fails_ends_it_with_its_status(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_call", lambda command: 1)
    assert main(["weights", str(tmp_path / "out"), "--hours", "1"]) == 1


def test_sigterm_is_handed_on_once(tmp_path):
    code = (
        "import sys; from trainer.commands import weights;"
        f"sys.exit(weights._call(('synthesize', {str(tmp_path / 'many')!r}, '--samples', '1000000', '--workers', '1')))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # a line of progress: it is at work
        assert "samples" in first
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 130
        assert time.monotonic() - began < 30
        assert "Traceback" not in process.stderr.read()


def test_mistakes_are_told(tmp_path, capsys):
    out = tmp_path / "out"
    for words, told in (
        (["--seed", "40"], "--seed must be from 0 to 39"),
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
