"""From single measurements to a table, a JSON document and a chart."""

import json
import statistics
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from benchmarks.ground import BLOCK
from benchmarks.memory import IDLE_SECONDS, Memory
from benchmarks.rows import ROWS, Row

COMPARED = "kernel"
COMPARED_WITH = ("bindfs", "stock", "native")


class Measurement(NamedTuple):
    """One loop, run once."""

    place: str
    row: str
    candidate: str
    round: int
    operations: int
    seconds: float
    daemon_seconds: float


class Results(NamedTuple):
    """All of a run."""

    machine: Dict[str, Any]
    places: Dict[str, str]  # name to filesystem type, in order
    candidates: List[str]  # in order
    measurements: List[Measurement]
    memory: Dict[str, Memory]  # by candidate
    idle: Dict[str, float]  # by candidate: CPU seconds in IDLE_SECONDS

    def seconds(self, place: str, row: str, candidate: str) -> Optional[float]:
        """Return the median time of an operation; None when it was not measured."""
        return _median(each.seconds / each.operations for each in self._of(place, row, candidate))

    def daemon_seconds(self, place: str, row: str, candidate: str) -> Optional[float]:
        """Return the median CPU time of the serving process for an operation, or None."""
        measurements = self._of(place, row, candidate)
        return _median(each.daemon_seconds / each.operations for each in measurements)

    def rows(self) -> List[Row]:
        """Return the rows that were measured, in the order of the table."""
        measured = {measurement.row for measurement in self.measurements}
        return [row for row in ROWS if row.name in measured]

    def rounds(self) -> int:
        """Return how many rounds there were."""
        return len({measurement.round for measurement in self.measurements})

    def _of(self, place: str, row: str, candidate: str) -> List[Measurement]:
        """Return the measurements of a cell, none when it failed in some round."""
        wanted = (place, row, candidate)
        found = [each for each in self.measurements if each[:3] == wanted]
        return found if len(found) == self.rounds() else []


def _median(values: Iterable[float]) -> Optional[float]:
    listed = list(values)
    return statistics.median(listed) if listed else None


def shown(row: Row, seconds: Optional[float]) -> Optional[float]:
    """Return the number that a reader sees: MB/s (10^6 bytes) or µs."""
    if seconds is None:
        return None
    return BLOCK / 1e6 / seconds if row.megabytes else seconds * 1e6


def table(results: Results) -> str:
    """Return all results as text."""
    parts = [_machine_line(results.machine)]
    for place, kind in results.places.items():
        parts.append(f"{place} ({kind}): medians of {results.rounds()} rounds")
        parts.append(_times(results, place))
        parts.append(f"{place} ({kind}): CPU time of the serving process, µs per operation")
        parts.append(_daemon_times(results, place))
    if results.memory:
        parts.append("Memory of the serving process, bytes per node of a tree")
        parts.append(_memory(results))
    if results.idle:
        parts.append(f"CPU time of the serving process in {IDLE_SECONDS:g} s without a request, ms")
        names = _names(results, results.idle)
        parts.append(
            _grid([["", *names], ["idle", *(_number(results.idle[n] * 1e3) for n in names)]])
        )
    if COMPARED in results.candidates:
        parts.append(
            f"{COMPARED}/x: the time of {COMPARED} for the same work as a multiple of x's, also where "
            "MB/s are shown; below 1 it is faster."
        )
    return "\n\n".join(parts) + "\n"


def _times(results: Results, place: str) -> str:
    others = [name for name in COMPARED_WITH if {name, COMPARED} <= set(results.candidates)]
    lines = [["", "", *results.candidates, *(f"{COMPARED}/{name}" for name in others)]]
    for row in results.rows():
        medians = {name: results.seconds(place, row.name, name) for name in results.candidates}
        line = [row.name, "MB/s" if row.megabytes else "µs"]
        line += [_number(shown(row, medians[name])) for name in results.candidates]
        line += [_ratio(medians[COMPARED], medians[name]) for name in others]
        lines.append(line)
    return _grid(lines)


def _daemon_times(results: Results, place: str) -> str:
    names = [name for name in results.candidates if name != "native"]
    lines = [["", *names]]
    for row in results.rows():
        medians = [results.daemon_seconds(place, row.name, name) for name in names]
        label = f"{row.name}, per MiB" if row.megabytes else row.name
        lines.append([label, *(_number(None if s is None else s * 1e6) for s in medians)])
    return _grid(lines)


def _memory(results: Results) -> str:
    names = _names(results, results.memory)
    memory = [results.memory[name] for name in names]
    return _grid(
        [
            ["", *names],
            ["nodes", *(f"{each.nodes:,}" for each in memory)],
            ["before, MiB", *(f"{each.before / BLOCK:.1f}" for each in memory)],
            ["walked", *(_number(each.per_node) for each in memory)],
            ["forgotten", *(_number(each.kept_per_node) for each in memory)],
        ]
    )


def _names(results: Results, measured: Dict[str, Any]) -> List[str]:
    return [name for name in results.candidates if name in measured]


def _machine_line(machine: Dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def _number(value: Optional[float]) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _ratio(numerator: Optional[float], denominator: Optional[float]) -> str:
    if numerator is None or denominator is None:
        return "-"
    return f"{numerator / denominator:.2f}"


def _grid(lines: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def document(results: Results) -> Dict[str, Any]:
    """Return all results for JSON: every measurement, the medians, and what they were measured on."""
    return {
        "machine": results.machine,
        "places": results.places,
        "measurements": [measurement._asdict() for measurement in results.measurements],
        "medians": {
            place: {row.name: _medians(results, place, row) for row in results.rows()}
            for place in results.places
        },
        "memory": {
            name: dict(
                memory._asdict(), per_node=memory.per_node, kept_per_node=memory.kept_per_node
            )
            for name, memory in results.memory.items()
        },
        "idle": {"seconds": IDLE_SECONDS, "daemon_seconds": results.idle},
    }


def _medians(results: Results, place: str, row: Row) -> Dict[str, Any]:
    medians = {}
    for name in results.candidates:
        seconds = results.seconds(place, row.name, name)
        if seconds is not None:
            medians[name] = {
                "seconds_per_operation": seconds,
                "daemon_seconds_per_operation": results.daemon_seconds(place, row.name, name),
                "MB/s" if row.megabytes else "µs": shown(row, seconds),
            }
    return medians


def write_json(results: Results, path: str) -> None:
    """Write the document."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document(results), file, indent=1, ensure_ascii=False)
        file.write("\n")


def write_chart(results: Results, path: str) -> None:
    """Draw the medians as a PNG: a column per place, times above rates."""
    # Here, so that the rest works without matplotlib; and not pyplot, which keeps global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kinds: List[Tuple[str, List[Row]]] = [
        ("µs per operation (less is better)", [r for r in results.rows() if not r.megabytes]),
        ("MB/s (more is better)", [r for r in results.rows() if r.megabytes]),
    ]
    kinds = [(label, rows) for label, rows in kinds if rows]
    heights = [len(rows) for _, rows in kinds]
    bars = len(results.candidates)
    figure = Figure(figsize=(6.5 * len(results.places), 1.8 + 0.2 * (bars + 1) * sum(heights)))
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        len(kinds), len(results.places), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for line, (label, rows) in enumerate(kinds):
        for column, (place, kind) in enumerate(results.places.items()):
            panel = panels[line][column]
            _draw(panel, results, place, rows)
            panel.set_xlabel(label)
            if line == 0:
                panel.set_title(f"{place} ({kind})")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.45 / figure.get_figheight()))
    figure.legend(handles, labels, loc="upper center", ncol=bars, frameon=False)
    figure.savefig(path, dpi=110)


def _draw(panel: Any, results: Results, place: str, rows: Sequence[Row]) -> None:
    """Draw a group of bars for each row, each bar with its number."""
    names = results.candidates
    height = 0.85 / len(names)
    for index, name in enumerate(names):
        for number, row in enumerate(rows):
            value = shown(row, results.seconds(place, row.name, name))
            position = number + (index - (len(names) - 1) / 2) * height
            panel.barh(
                position,
                value or 0,
                height * 0.9,
                color=f"C{index}",
                label=name if number == 0 else None,
            )
            text = "not measured" if value is None else f"{value:,.4g}"
            panel.annotate(
                text,
                (value or 0, position),
                (3, 0),
                textcoords="offset points",
                va="center",
                size=7,
            )
    panel.set_yticks(range(len(rows)))
    panel.set_yticklabels([row.name for row in rows])
    panel.invert_yaxis()
    panel.margins(x=0.12, y=0.01)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
