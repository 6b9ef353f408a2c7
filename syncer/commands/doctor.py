"""`syncer doctor`: check every setting and connection."""

import argparse

from syncer import output
from syncer.context import COULD_NOT_RUN, DONE, load
from syncer.doctor import examine


async def run(arguments: argparse.Namespace) -> int:
    findings = await examine(load(arguments))
    if arguments.json:
        output.as_json({"checks": [vars(finding) for finding in findings]})
    else:
        output.findings(findings)
    return DONE if all(finding.ok for finding in findings) else COULD_NOT_RUN
