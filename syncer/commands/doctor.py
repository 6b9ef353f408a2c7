"""`syncer doctor`: check settings and connections."""

import argparse

from syncer import output
from syncer.context import COULD_NOT_RUN, DONE, load_settings
from syncer.doctor import run_checks

HELP = "check settings and connections and name the remedy for each problem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


async def run(arguments: argparse.Namespace) -> int:
    findings = await run_checks(load_settings(arguments))
    if arguments.json:
        output.print_json({"checks": [vars(finding) for finding in findings]})
    else:
        output.print_findings(findings)
    return DONE if all(finding.ok for finding in findings) else COULD_NOT_RUN
