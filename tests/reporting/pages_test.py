"""The generated pages: what directives print, what they refuse, and that the committed pages are up to date."""

import json
import pathlib
import re

import pytest

from multibodies_jax.reporting import __main__ as command
from multibodies_jax.reporting import pages

ROOT = pathlib.Path(__file__).parents[2]
COLUMNS = "table,set,method,against,n,metric,mean,low,high,half,seed_min,seed_max,seeds,p,same_sign"
LINES = f"""{COLUMNS}
errors,clean,ours,,1,mpjpe,10.0,9.0,11.0,,9.5,10.5,,,
errors,clean,ours,,5,mpjpe,8.0,7.0,9.0,,,,,,
errors,clean,HMR,,1,mpjpe,9.0,,,0.5,,,,,
errors,hard,HMR,,1,mpjpe,99.0,,,,,,,,
against,clean,ours,HMR,1,mpjpe,+1.0,+0.0,+2.0,,,,,,
against,clean,ours,HMR,5,mpjpe,-1.0,-2.0,-0.0,,,,,,
against,clean,ours,HMR,10,mpjpe,+0.1,-0.2,+0.3,,,,,,
"""
RUNS = {"tiny": {"what": "a test", "command": "make tiny", "commits": "abc", "cost": "seed 0"}}


@pytest.fixture
def checkout(tmp_path):
    """A folder with the data of one run, one template and a document with a marked part."""
    data = tmp_path / "docs/results/data"
    data.mkdir(parents=True)
    (data / "tiny.csv").write_text(LINES, encoding="utf-8")
    (data / "runs.json").write_text(json.dumps(RUNS), encoding="utf-8")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/default.py").write_bytes((ROOT / "configs/default.py").read_bytes())
    templates = tmp_path / "docs/results/templates"
    templates.mkdir()
    (templates / "page.md").write_text(
        "# Page\n\n{{value tiny errors set=clean method=HMR n=1 metric=mpjpe}}\n", encoding="utf-8"
    )
    (templates / "_part.md").write_text("See [the page](results/page.md).\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("# Title\n\n<!-- begin part -->\nold\n<!-- end -->\n\nrest\n", encoding="utf-8")
    return tmp_path


def _fill(template, folder):
    return pages.fill(template, lambda run: pages.read(folder / "docs/results/data", run), RUNS)


@pytest.mark.parametrize(
    "style, shown",
    [("mean", "10.0"), ("interval", "10.0 [9.0, 11.0]"), ("seeds", "10.0 [9.0, 11.0] (9.5 to 10.5)")],
)
def test_a_value_is_printed_with_the_digits_of_the_data(checkout, style, shown):
    directive = f"{{{{value tiny errors set=clean method=ours n=1 metric=mpjpe style={style}}}}}"
    assert _fill(directive, checkout) == shown


def test_half_intervals_and_verdicts(checkout):
    assert _fill("{{value tiny errors set=clean method=HMR n=1 style=interval}}", checkout) == "9.0 ± 0.5"
    printed = _fill("{{table tiny against rows=against columns=n style=verdict}}", checkout)
    assert "+1.0 [+0.0, +2.0], worse | -1.0 [-2.0, -0.0], better | +0.1 [-0.2, +0.3] |" in printed
    printed = _fill("{{table tiny against rows=against columns=n style=outcome}}", checkout)
    assert "does not hold" in printed and ": holds" in printed and "not refuted" in printed


def test_a_table_has_the_order_of_the_directive_and_leaves_missing_cells_empty(checkout):
    table = '{{table tiny errors set=clean metric=mpjpe rows=method columns=n method="HMR; ours" n="5; 1"}}'
    assert _fill(table, checkout).splitlines() == [
        "| method | n = 5 | n = 1 |",
        "|---|---|---|",
        "| HMR |  | 9.0 |",
        "| ours | 8.0 | 10.0 |",
    ]
    assert _fill(table.replace(' method="HMR; ours" n="5; 1"', ""), checkout).splitlines()[2] == "| ours | 10.0 | 8.0 |"


def test_a_column_of_rows_may_have_another_title(checkout):
    printed = _fill("{{table tiny errors set=clean metric=mpjpe rows=set:people,method:program columns=n}}", checkout)
    assert printed.splitlines()[0] == "| people | program | n = 1 | n = 5 |"


def test_all_tables_of_a_run_and_none_of_one_that_was_not_measured(checkout):
    printed = _fill("{{tables tiny}}\n{{sources}}", checkout)
    assert "**errors**\n\n| set | method | n | MPJPE |\n" in printed and "| hard | HMR | 1 | 99.0 |" in printed
    assert "**against**\n\n| set | method | against | n | MPJPE |" in printed and "`make tiny`" in printed
    assert _fill("{{tables other}}", checkout) == "This was not measured yet."


def test_benchmarks_have_data_and_a_page_of_their_own(checkout):
    data = checkout / "docs/results/data/benchmarks"
    data.mkdir()
    (data / "tiny.csv").write_text(LINES, encoding="utf-8")
    (data / "runs.json").write_text(json.dumps({"tiny": RUNS["tiny"] | {"what": "Is it fast?"}}), encoding="utf-8")
    templates = checkout / "docs/results/templates"
    (templates / "all.md").write_text("{{sources all}}", encoding="utf-8")
    (templates / "benchmarks.md").write_text("{{value benchmarks/tiny errors set=hard}}\n{{sources}}", encoding="utf-8")
    made = pages.build(checkout)
    page = made[pathlib.Path("docs/benchmarks.md")]
    assert "from results/templates/benchmarks.md" in page and "\n99.0\n" in page
    assert "| [benchmarks/tiny](results/data/benchmarks/tiny.csv) | Is it fast? |" in page
    assert "benchmarks/" not in made[pathlib.Path("docs/results/all.md")]


def test_sources_name_the_runs_that_the_page_read_and_no_other(checkout):
    printed = _fill("{{value tiny errors set=hard}} {{sources}}", checkout)
    assert "| [tiny](data/tiny.csv) | a test | `make tiny` | abc | seed 0 |" in printed
    with pytest.raises(pages.PageError, match="reads no data"):
        _fill("{{sources}}", checkout)


@pytest.mark.parametrize("n, sign", [("1", "positive"), ("5", "negative"), ("10", "unclear")])
def test_a_check_prints_nothing_and_fails_on_what_the_data_refute(checkout, n, sign):
    for asked in ("positive", "negative", "unclear"):
        directive = f"{{{{check tiny against n={n} is={asked}}}}}"
        if asked == sign:
            assert _fill(directive, checkout) == ""
        else:
            with pytest.raises(pages.PageError, match=f"is {sign} for .*n={n}"):
                _fill(directive, checkout)


def test_a_mean_is_checked_against_a_limit_and_an_aim(checkout):
    head = "tiny errors set=clean method=ours n=5"
    assert _fill(f"{{{{check {head} is='below 8.5'}}}}{{{{check {head} is='above 8'}}}}", checkout) == ""
    with pytest.raises(pages.PageError, match=r"is above 8 for .*n=5"):
        _fill(f"{{{{check {head} is='below 8'}}}}", checkout)
    assert _fill(f"{{{{value {head} style=aim aim=8}}}}", checkout) == "8.0 [7.0, 9.0], met"
    assert _fill("at most {{aim 0.30}} ms", checkout) == "at most 0.30 ms"
    assert _fill(f"{{{{value {head} style=aim aim=7.9}}}}", checkout) == "8.0 [7.0, 9.0], missed"
    assert _fill(f"{{{{value {head} style=aim aim='at least 8'}}}}", checkout).endswith(", met")
    assert _fill(f"{{{{value {head} style=aim aim='at least 8.1'}}}}", checkout).endswith(", missed")


@pytest.mark.parametrize(
    "directive, message",
    [
        *(
            (f"{verb} tiny errors set=hard {aim}", "style=aim is of a value and needs a number: aim=8")
            for verb, aim in (
                ("value", "style=aim"),
                ("value", "style=aim aim=x"),
                ("value", "aim=8"),
                ("table", "style=aim aim=8"),
            )
        ),
        ("check tiny errors is='below none'", "needs a number"),
        ("value tiny errors set=clean", "selects 3 lines"),
        ("value tiny errors method=nobody", "no data with method=nobody"),
        ("value tiny nothing", "no data in the table 'nothing'"),
        ("value other errors", "no data of the run 'other'; choose one of tiny"),
        ("value tiny errors sets=clean", "unknown key"),
        ("value tiny errors set=hard style=bold", "style must be one of"),
        ("table tiny errors rows=method columns=n", "two numbers for one cell"),
        ("table tiny errors rows=methods columns=n", "rows and columns are keys"),
        ("value tiny", "name the run and the table"),
        ("tables tiny errors", "no directive 'tables'"),
        ("aim fast", "name the run and the table"),
        ("plot tiny errors", "no directive 'plot'"),
    ],
)
def test_a_directive_that_cannot_be_filled_is_refused(checkout, directive, message):
    with pytest.raises(pages.PageError, match=re.escape(directive.split()[0]) + ".*" + message):
        _fill(f"{{{{{directive}}}}}", checkout)


def test_the_command_writes_what_differs_and_check_only_lists_it(checkout, capsys):
    assert command.main(["pages", f"--root={checkout}", "--check"]) == 1
    assert (
        "old" in (checkout / "README.md").read_text(encoding="utf-8")
        and not (checkout / "docs/results/page.md").exists()
    )
    assert command.main(["pages", f"--root={checkout}"]) == 0
    assert "docs/results/page.md" in capsys.readouterr().out
    assert (checkout / "docs/results/page.md").read_text(encoding="utf-8").endswith("# Page\n\n9.0\n")
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert "See [the page](docs/results/page.md).\n<!-- end -->\n\nrest\n" in readme and "old" not in readme
    assert command.main(["pages", f"--root={checkout}", "--check"]) == 0


def test_the_command_names_the_template_that_cannot_be_filled(checkout, capsys):
    (checkout / "docs/results/templates/page.md").write_text("{{value tiny errors set=none}}", encoding="utf-8")
    assert command.main(["pages", f"--root={checkout}"]) == 2
    assert "page.md" in (error := capsys.readouterr().err) and "no data with set=none" in error
    assert command.main(["pages", f"--root={checkout / 'docs'}"]) == 2
    (checkout / "docs/results/templates/page.md").write_text("# Page\n", encoding="utf-8")
    (checkout / "README.md").write_text("<!-- begin unknown -->\n<!-- end -->\n", encoding="utf-8")
    assert command.main(["pages", f"--root={checkout}"]) == 2
    assert "README.md: there is no part 'unknown'" in capsys.readouterr().err


def test_the_committed_pages_are_what_the_command_makes():
    differing = pages.write(ROOT, check=True)
    assert not differing, f"run `multibodies report pages`: {', '.join(map(str, differing))}"


def test_every_page_of_results_has_a_template():
    made = {path for path in pages.build(ROOT) if path.parent == pages.RESULTS}
    assert made == {path.relative_to(ROOT) for path in (ROOT / pages.RESULTS).glob("*.md")}


def test_no_measured_number_is_typed_into_a_template():
    for path in (ROOT / pages.RESULTS / "templates").glob("*.md"):
        typed = re.findall(
            r"(?<!Human)\d+\.\d+", re.sub(r"\{\{.*?\}\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        )
        assert not typed, f"{path.name} has {typed}: fetch them from the data"
