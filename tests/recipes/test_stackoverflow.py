import html
import sqlite3

import pytest

from fedlearn import FederatedDataset
from fedlearn.data import FormatError
from fedlearn.datasets import stackoverflow

pytestmark = pytest.mark.backend_free


def row(**cells):
    text = " ".join(
        f'{name}="{html.escape(str(value))}"' for name, value in cells.items()
    )
    return f"  <row {text} />\n"


def question(number, user, day, body, title="How?", tags="<lamp><fog>"):
    return row(
        Id=number,
        PostTypeId=1,
        CreationDate=f"{day}T10:00:00.123",
        Score=number,
        Body=body,
        OwnerUserId=user,
        Title=title,
        Tags=tags,
    )


def answer(number, user, day, body, parent):
    return row(
        Id=number,
        PostTypeId=2,
        ParentId=parent,
        CreationDate=f"{day}T11:30:05",
        Score=-2,
        Body=body,
        OwnerUserId=user,
    )


ROWS = [
    question(1, 7, "2017-12-31", "<p>It's fog. Why?</p><p>Tell me!</p>"),
    answer(2, 10, "2017-05-05", "Wait. Then look.", 1),
    answer(3, 12, "2018-01-01", "Use a lamp.", 1),
    question(4, 12, "2016-02-03", "One. Two.", "Am I <b>?", "|c#|.net|"),
    answer(5, 7, "2019-01-01", "Fog, again", 4),
    answer(6, 10, "2019-09-09", "Gone.", 99),
    answer(8, 3, "2015-01-01", "I wrote once.", 1),
    # Not by anybody, by the site, and of other kinds.
    row(
        Id=9,
        PostTypeId=2,
        ParentId=1,
        CreationDate="2015-01-01T00:00:00",
        Score=1,
        Body="Ghost.",
    ),
    answer(11, -1, "2015-01-01", "Robot.", 1),
    row(Id=12, PostTypeId=5, OwnerUserId=7),
]


def dump(path, rows=ROWS):
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<posts>\n'
        + "".join(rows)
        + "</posts>",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def source(tmp_path):
    return dump(tmp_path / "Posts.xml")


def rows_of(dataset):
    return {
        name: [*zip(*(c.tolist() for c in dataset[name].values()), strict=True)]
        for name in dataset
    }


OPTIONS = ["--min-sentences", "2"]


def test_everything(recipe, twice, source, tmp_path):
    path = twice(
        recipe("stackoverflow").main, source, "stackoverflow.sqlite", *OPTIONS
    )
    parts = (
        FederatedDataset.from_tff_sqlite(path, part)
        for part in ("train", "heldout", "test")
    )
    train, heldout, test = map(rows_of, parts)
    asked = b"2017-12-31 10:00:00 UTC", 1, b"lamp|fog", b"how ?"
    two = b"2016-02-03 10:00:00 UTC", 4, b"c#|.net", b"am i < b > ?"
    assert train == {
        "00000007": [
            (*asked, b"it's fog .", b"question"),
            (*asked, b"why ?", b"question"),
            (*asked, b"tell me !", b"question"),
        ],
        "00000012": [
            (*two, b"one .", b"question"),
            (*two, b"two .", b"question"),
        ],
    }
    early = b"2017-05-05 11:30:05 UTC", -2, b"lamp|fog", b"how ?"
    late = b"2019-09-09 11:30:05 UTC", -2, b"", b""
    assert heldout == {
        "00000010": [
            (*early, b"wait .", b"answer"),
            (*early, b"then look .", b"answer"),
            (*late, b"gone .", b"answer"),
        ]
    }
    assert test == {
        "00000007": [
            (
                b"2019-01-01 11:30:05 UTC",
                -2,
                b"c#|.net",
                b"am i < b > ?",
                b"fog , again",
                b"answer",
            )
        ],
        "00000012": [
            (
                b"2018-01-01 11:30:05 UTC",
                -2,
                b"lamp|fog",
                b"how ?",
                b"use a lamp .",
                b"answer",
            )
        ],
    }


def test_counts_are_of_people(recipe, source, tmp_path):
    path = tmp_path / "out" / "stackoverflow.sqlite"
    recipe("stackoverflow").main(
        ["--source", str(source), "--output", str(path), *OPTIONS]
    )
    words = stackoverflow.load_word_counts(source=path.parent)
    assert words == {
        word: 2 if word == "." else 1
        for word in [
            *[".", "!", "?", "fog", "it's", "me", "one", "tell", "two", "why"],
        ]
    }
    assert [*words][:2] == [".", "!"]
    tags = stackoverflow.load_tag_counts(source=path.parent)
    assert tags == {".net": 1, "c#": 1, "fog": 1, "lamp": 1}
    # The counts are found beside the file, in both tasks.
    train, _, _ = stackoverflow.load_data(
        source=path, cache_dir=tmp_path, vocab_size=3, sequence_length=4
    )
    x, _ = train["00000012"]
    assert x.tolist() == [[5, 4, 1, 6]] * 2
    train, _, _ = stackoverflow.load_data(
        "tags", source=path, cache_dir=tmp_path, vocab_size=3, num_tags=3
    )
    _, y = train["00000012"]
    assert y.tolist() == [[1, 1, 0]] * 2


def test_who_wrote_less_is_left_out(recipe, source, tmp_path):
    main = recipe("stackoverflow").main
    path = tmp_path / "out.sqlite"
    args = ["--source", str(source), "--output", str(path)]
    with pytest.raises(ValueError, match="no clients for the split 'train'"):
        main(args)
    main([*args, *OPTIONS, "--limit", "1"])
    connection = sqlite3.connect(path)
    assert connection.execute(
        "SELECT split_name, client_id, num_examples FROM client_metadata"
    ).fetchall() == [
        ("train", "00000007", 3),
        ("heldout", "00000010", 3),
        ("test", "00000007", 1),
    ]
    connection.close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", []),
        ("<p> </p>\n<hr>", []),
        ("<p>A <em>b</em>c</p>", ["a bc"]),
        ("Héllo, wörld…", ["hllo , wrld"]),
        ("1 &lt; 2 &amp;&amp; don't-do", ["1 < 2 & & don't-do"]),
        ("v1.5 is out? Yes", ["v1 . 5 is out ?", "yes"]),
        ("see http://a.b/c?d=e. Ok", ["see <URL> .", "ok"]),
        ('<a href="https://x.y">this</a> (ftp://h/z)', ["this ( <URL> )"]),
        ("<pre><code>a\nb</code></pre>c", ["a", "b", "c"]),
        ("a_b\tc", ["a _ b c"]),
    ],
)
def test_sentences(recipe, body, expected):
    assert recipe("stackoverflow").sentences(body) == expected


def test_many_brackets(recipe):
    # A pattern that scans them all from each would take hours.
    text = "<" * 500_000
    assert recipe("stackoverflow").sentences(text) == [" ".join(text)]


GOOD = ROWS[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD.replace("2017-12-31T", "31.12.2017 ")], "expected a date"),
        ([GOOD.replace('Score="1"', 'Score="many"')], "row '1': Score"),
        ([GOOD.replace('Score="1"', f'Score="{10**30}"')], "row '1': Score"),
        ([GOOD.replace("Body", "Text")], "row '1': Body: a post without it"),
        ([GOOD.replace("PostTypeId", "Kind")], "PostTypeId"),
        (["<row "], "no well-formed XML"),
    ],
)
def test_other_files_are_refused(recipe, tmp_path, rows, message):
    source = dump(tmp_path / "Posts.xml", rows)
    out = tmp_path / "out" / "stackoverflow.sqlite"
    with pytest.raises(FormatError, match=message):
        recipe("stackoverflow").main(
            ["--source", str(source), "--output", str(out)]
        )
    assert [*out.parent.iterdir()] == []


def test_entities_are_refused(recipe, tmp_path):
    source = tmp_path / "Posts.xml"
    source.write_text('<!DOCTYPE posts [<!ENTITY a "aa">]><posts/>')
    with pytest.raises(FormatError, match="the entity 'a'"):
        recipe("stackoverflow").main(
            ["--source", str(tmp_path), "--output", str(tmp_path / "o.sqlite")]
        )
