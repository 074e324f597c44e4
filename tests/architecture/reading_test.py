"""The reader's path through the method (docs/architecture.md): its command runs, and counts fewer lines than it says."""

import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
_PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTION = _PAGE.partition("## Reading the method\n")[2].partition("\n## ")[0]


def test_the_method_is_as_short_to_read_as_the_document_says():
    (command,) = re.findall(r"^cd multibodies_jax && wc -l .+$", SECTION, re.MULTILINE)
    (bound,) = re.findall(r"fewer than ([\d,]+) lines in all; the command", SECTION)
    run = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert int(run.stdout.splitlines()[-1].removesuffix("total")) < int(bound.replace(",", "")) <= 2500
