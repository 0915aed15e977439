"""Numbers as text, figures as part of a page, and the templates that use both."""

import base64
import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar10 import colours
from cifar10.contracts import Costs, machine_name
from cifar10.metrics import MIN_SEEDS

if TYPE_CHECKING:
    import jinja2

COLOURS = {  # of the figures -> their names in the page, which has others for dark mode
    "#000000": "ink",
    colours.BLUE: "blue",
    colours.ORANGE: "orange",
    colours.GREEN: "green",
    colours.PINK: "pink",
    colours.SKY: "sky",
    colours.GREY: "grey",
    "#b0b0b0": "grey",  # the grid, by matplotlib
}
STYLE = """<style>
:root { --ink: #1c1c1c; --blue: #0072b2; --orange: #d55e00; --green: #009e73; --pink: #b85c92; --sky: #3a9bd1; \
--grey: #757575; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --blue: #4aa8e0; --orange: #f0803c; --green: #2fc49a; \
--pink: #dd92bd; --sky: #8ccbf0; --grey: #9a9a9a; } }
svg { fill: var(--ink); }
</style>"""


def percent(value: float | None) -> str:
    """Return a fraction as a percentage, or nothing if it is missing."""
    return "" if value is None or pd.isna(value) else f"{100 * value:.2f}%"


def number(value: float | None, form: str) -> str:
    """Return a formatted number, or nothing if it is missing."""
    return "" if value is None or pd.isna(value) else format(value, form)


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def latency(costs: Costs) -> str:
    """Return the latency in ms, with the percentiles where they are known."""
    low, high = costs.latency_low_ms, costs.latency_high_ms
    return f"{costs.latency_ms:.1f}" + ("" if low is None else f" ({low:.1f} to {high:.1f})")


def spread(line: dict[str, Any]) -> str:
    """Return what qualifies the mean over the seeds of a line of the leaderboard; empty if it has only one."""
    if line["seeds"] < 2:
        return ""
    if line["seeds"] < MIN_SEEDS:
        interval = f"a 95% CI takes {MIN_SEEDS}"
    elif pd.isna(line["seeds_low"]):
        interval = "all equal, which gives no 95% CI"
    else:
        interval = f"95% CI {100 * line['seeds_low']:.2f} to {100 * line['seeds_high']:.2f}"
    differs = "" if pd.isna(line["differs"]) or not line["differs"] else f"; they also differ in {line['differs']}"
    return f"{line['seeds']} seeds, SD {100 * line['seeds_sd']:.2f} points, {interval}{differs}"


def listed(names: list[str]) -> str:
    """Return names as an enumeration."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def data_uri(svg: str) -> str:
    """Return one of the project's SVG figures as a data URI, in colours that follow the page's."""
    for colour, name in COLOURS.items():
        svg = re.sub(colour, f"var(--{name})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"(<svg[^>]*>)", lambda found: f"{found[1]}{STYLE}", svg, count=1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def label(svg: str) -> str | None:
    """Return the label with which one of the project's figures was saved as SVG."""
    found = re.search(r"<dc:identifier>([^<]*)</dc:identifier>", svg)
    return found[1] if found else None


def template(name: str) -> "jinja2.Template":
    """Return a template of this package, in which functions of this module are filters."""
    import jinja2

    loader = jinja2.PackageLoader("cifar10.pipelines.reporting", "")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    for function in (percent, duration, number, machine_name, latency, spread, listed, data_uri):
        environment.filters[function.__name__] = function
    return environment.get_template(name)
