"""Figures as tables, in plain text or Markdown, and tables into a marked region of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.errors import DataError
from tracker.hand.skeleton import JOINT_NAMES

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header; the first column is left-justified, the others are numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """As columns of characters."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        lines = [self.title, "  ".join(_cells(self.header, widths)), *("  ".join(_cells(r, widths)) for r in self.rows)]
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """As a Markdown table under its title in bold."""
        rule = "|---|" + "---:|" * (len(self.header) - 1)
        rows = [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([f"**{self.title}**", "", f"| {' | '.join(self.header)} |", rule, *rows])


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]


def show(tables: Sequence[Table], markdown: bool) -> str:
    """Tables one after another."""
    return "\n\n".join(table.markdown() if markdown else table.text() for table in tables)


def replace_region(path: Path, name: str, body: str) -> None:
    """Put text between the lines `<!-- begin NAME -->` and `<!-- end NAME -->` of a document. Raises DataError."""
    before, after = check_region(path, name)
    try:
        path.write_text(f"{before}\n{body}\n\n{after}", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be rewritten: {error.strerror}") from error


def check_region(path: Path, name: str) -> tuple[str, str]:
    """The text up to and from the lines of `replace_region`, of a document that can be rewritten. Raises DataError."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    try:
        with path.open("r+", encoding="utf-8") as file:
            before, found_begin, rest = file.read().partition(begin)
    except OSError as error:
        raise DataError(f"{path} cannot be rewritten: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be rewritten: it is no text") from error
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise DataError(f"{path} has no lines {begin.strip()} and {end}: add them where the tables belong")
    return before + begin, end + after


def synthetic_tables(methods: Mapping[str, Figures]) -> list[Table]:
    """All tables of methods that saw the same frames. methods: name to what `accuracy_figures.figures` gives."""
    return [
        headline(methods),
        joint_table(methods),
        *(
            grouped(title, key, methods)
            for title, key in (
                ("By distance of the hand, metres", "by_distance"),
                ("By share of the hand's joints that are hidden", "by_hidden"),
                ("By kind of situation", "by_kind"),
                ("By camera", "by_camera"),
            )
            if any(len(each[key]) > 1 for each in methods.values())
        ),
        *(reliability_table(name, each) for name, each in methods.items() if each["reliability"]),
    ]


def headline(methods: Mapping[str, Figures]) -> Table:
    """The main figures, beside what they should be."""
    first = next(iter(methods.values()))
    rows = [
        ("true hands found", "98 %", lambda f: percent(f["recall"])),
        ("false hands a frame", "0.01", lambda f: number(f["false_a_frame"], 3)),
        ("frames with every hand and no other", "", lambda f: percent(f["whole_frames"])),
        ("wrong side", "below 1 %", lambda f: percent(f["side_errors"])),
        ("id switches", "", lambda f: f"{f['id_switches']}"),
        ("id switches, in 1000 hands found", "", lambda f: number(f["id_switches_per_1000"], 1)),
        ("joint error, mean", "8 mm (v2v: 6 mm)", lambda f: millimetres(f["mean_mm"])),
        ("95 % interval (sequences drawn anew)", "", lambda f: _interval(f["mean_mm_interval"])),
        ("joint error, median", "", lambda f: millimetres(f["median_mm"])),
        ("mean of the hands that all methods found", "", lambda f: millimetres(f.get("common_mean_mm"))),
        ("median of these", "", lambda f: millimetres(f.get("common_median_mm"))),
        ("mean, mean offset removed", "", lambda f: millimetres(f["centred_mean_mm"])),
        ("median, mean offset removed", "", lambda f: millimetres(f["centred_median_mm"])),
        ("all true joints within 10 mm", "", lambda f: percent(f["within_10_mm"])),
        ("all true joints within 20 mm", "", lambda f: percent(f["within_20_mm"])),
        ("mean of joints that can be seen", "", lambda f: millimetres(f["seen_joints_mm"])),
        ("mean of hidden joints", "", lambda f: millimetres(f["hidden_joints_mm"])),
        ("mean of joints published as tracked", "", lambda f: millimetres(f["tracked_joints_mm"])),
        ("mean of joints published as inferred", "", lambda f: millimetres(f["inferred_joints_mm"])),
        ("joint_tracked, precision", "", lambda f: percent(f["tracked_precision"])),
        ("joint_tracked, recall", "", lambda f: percent(f["tracked_recall"])),
        ("calibration error of joint_confidence", "below 0.05", lambda f: number(f["calibration_error"], 3)),
        ("the same, joints of false hands counted", "", lambda f: number(f["calibration_error_with_false"], 3)),
        ("mean confidence", "", lambda f: percent(f["mean_confidence"])),
        ("finding and cutting out, mean", "", lambda f: number(f["segment_ms_mean"], 1, " ms")),
        ("finding and cutting out, 95 % of the frames below", "", lambda f: number(f["segment_ms_p95"], 1, " ms")),
    ]
    # Without a simulator nobody knows which joints are hidden.
    shown = [row for row in rows if any(row[2](figures) != NOTHING for figures in methods.values())]
    return Table(
        f"{first['frames']} frames, {first['hands']} true hands",
        ["", "target", *methods],
        [[name, target, *(value(figures) for figures in methods.values())] for name, target, value in shown],
    )


def joint_table(methods: Mapping[str, Figures]) -> Table:
    """The mean error of each joint."""
    rows = [[name, *(number(f["joint_mean_mm"][name], 1) for f in methods.values())] for name in JOINT_NAMES]
    return Table("Mean error of each joint, mm", ["joint", *methods], rows)


def grouped(title: str, key: str, methods: Mapping[str, Figures]) -> Table:
    """Groups of hands or frames, with the few figures that say most."""
    names = list(dict.fromkeys(name for figures in methods.values() for name in figures[key]))
    columns = {"found": "recall", "mean mm": "mean_mm", "median mm": "median_mm", "wrong side": "side_errors"}
    if key in ("by_kind", "by_camera"):
        columns |= {"false/frame": "false_a_frame", "id switches": "id_switches"}
    shown = {"recall": percent, "side_errors": percent, "false_a_frame": lambda value: number(value, 3)}
    shown["id_switches"] = lambda value: number(value, 0)
    rows = []
    for name in names:
        row = [name, str(next(figures[key][name]["hands"] for figures in methods.values() if name in figures[key]))]
        for figures in methods.values():
            values = figures[key].get(name, {})
            row += [shown.get(c, lambda value: number(value, 1))(values.get(c)) for c in columns.values()]
        rows.append(row)
    several = len(methods) > 1
    header = [f"{method}: {column}" if several else column for method in methods for column in columns]
    return Table(title, ["", "hands", *header], rows)


def reliability_table(name: str, figures: Figures) -> Table:
    """What `joint_confidence` promised, and what came true."""
    rows = [
        [
            f"{100 * each['from']:.0f}-{100 * each['to']:.0f} %",
            str(each["joints"]),
            percent(each["confidence"]),
            percent(each["within_10_mm"]),
        ]
        for each in figures["reliability"]
    ]
    return Table(f"Confidence, {name}", ["joint_confidence", "joints", "mean", "within 10 mm"], rows)


def real_tables(folders: Mapping[str, Mapping[str, Figures]]) -> list[Table]:
    """One table of real recordings. folders: name to method to what `accuracy_real.real_figures` gives."""
    rows: list[list[str]] = []
    methods = list(next(iter(folders.values())))
    for folder, results in folders.items():
        frames = next(iter(results.values()))["frames"]
        for what, target, value in _real_rows(folder, next(iter(results.values())), frames):
            rows.append([f"{folder}: {what}", target, *(value(results[method]) for method in methods)])
    return [Table("Real recordings", ["", "target", *methods], rows)]


def _real_rows(folder: str, first: Figures, frames: int) -> list[tuple[str, str, Any]]:
    """What can be said of a recording: name, target, and how to read it from the figures."""
    rows: list[tuple[str, str, Any]] = []
    if "found" in first:
        hands = first["labelled"]["hands"] if "labelled" in first else frames
        rows.append((f"hands found, of {hands}", f"{hands}", lambda f: str(f["found"])))
    if "found_side" in first:
        rows.append((f"found with the right side, of {frames}", f"{frames}", lambda f: str(f["found_side"])))
    if "false_hands" in first:
        rows.append(("false hands", "0", lambda f: str(f["false_hands"])))
    else:
        rows.append(("hands a frame", "", lambda f: number(f["published"] / max(f["frames"], 1), 2)))
    rows.append(("frames with a second hand", "0" if "found" in first else "", lambda f: str(f["second"])))
    for key, without in (("labelled", ""), ("trusted", ", frames with good labels")):
        if key in first:
            target = "10 mm" if folder == "face_behind_hand" else ""
            rows += [
                (f"joint error, median{without}", target, lambda f, k=key: millimetres(f[k]["median_mm"])),
                (f"joint error, mean{without}", "", lambda f, k=key: millimetres(f[k]["mean_mm"])),
                (f"mean, mean offset removed{without}", "", lambda f, k=key: millimetres(f[k]["centred_mean_mm"])),
                (f"calibration error{without}", "", lambda f, k=key: number(f[k]["calibration_error"], 3)),
            ]
    return rows


NOTHING = "-"


def percent(value: float | None) -> str:
    """A share 0..1 as per cent."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


def number(value: float | None, digits: int, unit: str = "") -> str:
    """A number with some digits after the point."""
    return NOTHING if value is None else f"{value:.{digits}f}{unit}"


def millimetres(value: float | None) -> str:
    """A length."""
    return number(value, 1, " mm")


def _interval(value: Sequence[float] | None) -> str:
    return NOTHING if value is None else f"{value[0]:.1f} to {value[1]:.1f} mm"
