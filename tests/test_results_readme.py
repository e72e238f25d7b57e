"""The README's tables: one line per agent, made of the lines of leaderboard.csv."""

from __future__ import annotations

import pytest

from results.readme import main

HEAD = "env,trained_with,budget,agent,variant,learns,training_seeds,user,split,return,return_low,return_high,score,"
CSV = f"""{HEAD}score_low,score_high
shop,plain,tiny,best,,False,0,plain,test,1.5,1.25,1.75,1.0,1.0,1.0
shop,plain,tiny,best,,False,0,plain,odd,0.5,0.4,0.6,1.0,1.0,1.0
shop,plain,tiny,best,,False,0,moody,test,0.9,0.8,1.0,1.0,1.0,1.0
shop,plain,tiny,bandit,arms=3,True,0 2,plain,test,-0.0004,-0.1234,0.1226,-0.004,-0.5,0.492
shop,plain,tiny,bandit,arms=3,True,0 2,plain,odd,0.2,0.1,0.3,-0.25,-0.3,-0.2
shop,plain,tiny,bandit,arms=3,True,0 2,moody,test,0.2,0.1,0.3,,,
shop,plain,huge,best,,False,0,plain,test,7.0,7.0,7.0,1.0,1.0,1.0
"""
TABLE = """| agent | seeds | return | score | … on `odd` | … with `moody` |
| --- | --- | --- | --- | --- | --- |
| `best` | – | 1.500 [1.250, 1.750] | 1.00 | 1.00 | 1.00 |
| `bandit arms=3` | 2 | .000 [-.123, .123] | .00 [-.50, .49] | -.25 | - |
"""


@pytest.fixture
def written(tmp_path, capsys):
    """Makes the tables of a document; returns it and what was said."""

    def go(text: str, wanted: int = 0) -> tuple[str, str]:
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        (tmp_path / "leaderboard.csv").write_text(CSV)
        words = ["--readme", str(tmp_path / "README.md"), "--table", str(tmp_path / "leaderboard.csv")]
        assert main(words) == wanted
        return (tmp_path / "README.md").read_text(encoding="utf-8"), capsys.readouterr().err

    return go


def test_a_table_is_written_between_its_marks_and_the_rest_is_left(written):
    for old in ("", "| an old one |\n"):
        text, _ = written(f"Before.\n<!-- table: shop plain tiny -->\n{old}<!-- table end -->\nAfter.\n")
        assert text == f"Before.\n<!-- table: shop plain tiny -->\n\n{TABLE}\n<!-- table end -->\nAfter.\n"
        assert written(text)[0] == text


def test_every_mark_has_its_own_section(written):
    text, _ = written("".join(f"<!-- table: shop plain {one} -->\n<!-- table end -->\n" for one in ("huge", "tiny")))
    assert text.count("| `best` |") == 2 and "| `best` | – | 7.000 | 1.00 |" in text and TABLE in text


def test_a_section_that_is_not_there_is_said_and_nothing_is_written(written):
    text = "<!-- table: shop plain vast -->\nold\n<!-- table end -->\n"
    assert written(text, wanted=1) == (text, "The leaderboard has no section shop plain vast.\n")
