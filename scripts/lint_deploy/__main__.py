"""Runs the checks, then the same checks on broken copies. Exit code 1 when anything is wrong."""

import os
import pathlib
import sys

from . import broken, compose, configs, kubernetes, lag, systemd
from .tools import Skipped, Tools, skipped, tell

CHECKS = {"compose": compose, "kubernetes": kubernetes, "systemd": systemd, "configs": configs, "lag": lag}


def main() -> int:
    root, fetched, *more = sys.argv[1:]
    root = pathlib.Path(root)
    if more == ["--write"]:
        kubernetes.write(root)
        return 0
    if more:
        print(f"lint-deploy: {more[0]} is not known; see the head of scripts/lint-deploy", file=sys.stderr)
        return 2
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    natshook = pathlib.Path(os.environ.get("NATSHOOK_BIN", target / "debug" / "natshook")).absolute()
    if not natshook.exists():
        print(f"lint-deploy: there is no {natshook}: run cargo build, or set NATSHOOK_BIN", file=sys.stderr)
        return 2
    return check(root, Tools(pathlib.Path(fetched), natshook))


def check(root: pathlib.Path, tools: Tools) -> int:
    failed = False
    for name, module in CHECKS.items():
        try:
            found = [f"{name}: {complaint}" for complaint in module.complaints(root, tools)]
            if not found:
                found = [f"{name}: a broken copy: {complaint}" for complaint in broken.complaints(root, tools, name)]
        except Skipped as what:
            failed |= skipped(str(what))
            continue
        for complaint in found:
            print(f"lint-deploy: {complaint}", file=sys.stderr)
        if not found:
            tell(f"{name} ok, and {len(broken.copies(name))} broken copies refused")
        failed |= bool(found)
    return 1 if failed else 0


sys.exit(main())
