"""The unit: systemd reads it without a word, and finds it closed enough."""

import pathlib
import re
import shutil
import tempfile

from . import configs
from .tools import Tools, run, said, seconds

UNIT = "natshook.service"
# systemd-analyze's exposure times ten: below 1.5, where 10 is a service that may do everything.
EXPOSURE_MAX = 15


def complaints(root: pathlib.Path, tools: Tools):
    analyze = tools.installed("systemd-analyze", "systemd-analyze (Debian, Ubuntu: apt-get install systemd)")
    text = (root / "deploy/systemd" / UNIT).read_text()
    with tempfile.TemporaryDirectory() as work:
        # A stand-in for the programs, since systemd looks whether they are there.
        unit = pathlib.Path(work, UNIT)
        unit.write_text(text.replace("/usr/local/bin/natshook", shutil.which("true")))
        done = run([analyze, "verify", "--man=no", "--recursive-errors=no", unit])
        # Unknown keys and values are ignored with a warning.
        if done.returncode != 0 or done.stdout or done.stderr:
            yield f"systemd-analyze verify: {said(done)}"
        done = run([analyze, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit])
        if done.returncode != 0:
            yield f"systemd-analyze security: {said(done).split('→')[-1].strip()}, allowed is {EXPOSURE_MAX / 10}"

    values = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    config = configs.systemd(root)[0]
    least = seconds(configs.grace_seconds(config)) + configs.AFTER_GRACE_SECONDS
    if seconds(values["TimeoutStopSec"]) < least:
        yield f"TimeoutStopSec is {values['TimeoutStopSec']}, a drain needs {least:.0f} s"
    if "78" not in values.get("RestartPreventExitStatus", "").split():
        yield "a bad config (78) would be started again and again"
    if "-HUP" not in values.get("ExecReload", ""):
        yield "a reload does not end with SIGHUP"
