import html

import pytest

from fedlearn import FederatedDataset
from fedlearn.data import FormatError

pytestmark = pytest.mark.backend_free

XML = """<?xml version="1.0"?>
<!DOCTYPE PLAY SYSTEM "play.dtd">
<PLAY><TITLE>The Tale of Ann, Queen of Fog</TITLE>
<PERSONAE><PERSONA>ANN</PERSONA></PERSONAE>
<ACT><TITLE>ACT I</TITLE><SCENE><TITLE>SCENE I. A lane.</TITLE>
<STAGEDIR>Enter ANN and TOM</STAGEDIR>
<SPEECH><SPEAKER>ANN</SPEAKER>
<LINE>Who goes there, in the fog?</LINE>
<LINE><STAGEDIR>To TOM</STAGEDIR>  Speak!</LINE></SPEECH>
<SPEECH><SPEAKER>Old TOM</SPEAKER><LINE>Your servant &amp; friend.</LINE>
</SPEECH>
<SPEECH><SPEAKER>ANN</SPEAKER><SPEAKER>Old TOM</SPEAKER>
<LINE>Good morrow.</LINE></SPEECH>
<SPEECH><SPEAKER>ANN</SPEAKER><LINE>Farewell.</LINE></SPEECH>
<SPEECH><SPEAKER>ANN</SPEAKER><LINE></LINE></SPEECH>
<SPEECH><SPEAKER>BOY</SPEAKER><LINE>I have but one line.</LINE></SPEECH>
<SPEECH><SPEAKER></SPEAKER><LINE>Nobody says this.</LINE></SPEECH>
</SCENE></ACT></PLAY>
"""

TEXT = """
THE SONNETS

by William Shakespeare

  1
  From fog we want the lanterns' increase,

THE END

<<THIS EDITION IS
OURS. ASK FIRST.>>

1599

THE LANE'S END

by William Shakespeare

DRAMATIS PERSONAE

  ANN, a queen
  TOM, her servant

ACT I. SCENE 1.
A lane

Enter ANN and TOM

  ANN. Who goes there, in the fog?
    Speak, and be plain.
                                              [He hides]
    I hear thee yet.
  TOM. Your servant, madam. I go.                     Exit

<<THIS EDITION IS
OURS. ASK FIRST.>>

SCENE 2.
A hall

  FIRST LORD. A word.
  ANN. Farewell.
  Enter TOM. He limps
  TOM. I am hurt.

THE END

1600

A LANE BY DAY;
OR, NO FOG

by William Shakespeare

ACT I. SCENE 1

A lane

Enter KIT

KIT. I see the sun,
and it sees me.
MEG. So, so.

Exit MEG. She runs

KIT. Alone again.
Exit KIT

THE END
"""


def read(path, cache):
    parts = [
        FederatedDataset.from_tff_sqlite(path, part)
        for part in ("train", "test")
    ]
    return [
        {name: part[name]["snippets"].tolist() for name in part}
        for part in parts
    ]


def test_xml(recipe, twice, tmp_path):
    source = tmp_path / "plays"
    source.mkdir()
    (source / "ann.xml").write_text(XML, encoding="utf-8")
    (source / "play.dtd").write_text("not read")
    path = twice(recipe("shakespeare").main, source, "shakespeare.sqlite")
    train, test = read(path, tmp_path / "cache")
    assert train == {
        "THE_TALE_OF_ANN_QUEEN_OF_FOG_ANN": [
            b"Who goes there, in the fog?\nTo TOM  Speak!",
            b"Good morrow.",
        ],
        "THE_TALE_OF_ANN_QUEEN_OF_FOG_OLD_TOM": [b"Your servant & friend."],
    }
    assert test == {
        "THE_TALE_OF_ANN_QUEEN_OF_FOG_ANN": [b"Farewell."],
        "THE_TALE_OF_ANN_QUEEN_OF_FOG_OLD_TOM": [b"Good morrow."],
    }


def test_plain_text(recipe, twice, tmp_path):
    source = tmp_path / "100.txt"
    source.write_text(TEXT, encoding="utf-8", newline="\r\n")
    path = twice(recipe("shakespeare").main, source, "shakespeare.sqlite")
    train, test = read(path, tmp_path / "cache")
    assert train == {
        "A_LANE_BY_DAY_OR_NO_FOG_KIT": [b"I see the sun,\nand it sees me."],
        "THE_LANE_S_END_ANN": [
            b"Who goes there, in the fog?\nSpeak, and be plain.\n"
            b"I hear thee yet."
        ],
        "THE_LANE_S_END_TOM": [b"Your servant, madam. I go."],
    }
    assert test == {
        "A_LANE_BY_DAY_OR_NO_FOG_KIT": [b"Alone again."],
        "THE_LANE_S_END_ANN": [b"Farewell."],
        "THE_LANE_S_END_TOM": [b"I am hurt."],
    }


def test_the_last_fifth_is_for_testing(recipe, tmp_path):
    speeches = "".join(
        f"<SPEECH><SPEAKER>A</SPEAKER><LINE>{k}</LINE></SPEECH>"
        for k in range(11)
    )
    source = tmp_path / "a.xml"
    source.write_text(f"<PLAY><TITLE>P</TITLE>{speeches}</PLAY>")
    path = tmp_path / "out.sqlite"
    recipe("shakespeare").main(["--source", str(source), "--output", str(path)])
    train, test = read(path, tmp_path / "cache")
    assert train == {"P_A": [b"%d" % k for k in range(9)]}
    assert test == {"P_A": [b"9", b"10"]}


def test_37_plays_give_the_file_made_earlier(recipe, data_dir, tmp_path):
    """The speeches of the test data, put back into XML, are divided alike."""
    expected = read(data_dir / "shakespeare.sqlite.lzma", tmp_path / "one")
    assert len(expected[0]) == 1132
    # Where in an id the play ends is not known; any place will do.
    plays = {}
    for name in expected[0]:
        title, role = name.rsplit("_", 1)
        speeches = plays.setdefault(title, [])
        for snippet in [*expected[0][name], *expected[1][name]]:
            lines = html.escape(snippet.decode()).split("\n")
            speeches.append(
                f"<SPEECH><SPEAKER>{role}</SPEAKER>\n"
                + "".join(f"<LINE>{line}</LINE>\n" for line in lines)
                + "</SPEECH>\n"
            )
    source = tmp_path / "plays"
    source.mkdir()
    for title, speeches in plays.items():
        (source / f"{title}.xml").write_text(
            f"<PLAY><TITLE>{title}</TITLE>{''.join(speeches)}</PLAY>"
        )
    path = tmp_path / "out.sqlite"
    recipe("shakespeare").main(["--source", str(source), "--output", str(path)])
    assert read(path, tmp_path / "two") == expected


@pytest.mark.parametrize(
    ("title", "role", "expected"),
    [
        (
            "All's Well That Ends Well",
            "BERTRAM",
            "ALL_S_WELL_THAT_ENDS_WELL_BERTRAM",
        ),
        (
            "The Tragedy of Coriolanus",
            "Senators, &C",
            "THE_TRAGEDY_OF_CORIOLANUS_SENATORS_C",
        ),
        (
            "Pericles, Prince of Tyre",
            "First Fisherman",
            "PERICLES_PRINCE_OF_TYRE_FIRST_FISHERMAN",
        ),
    ],
)
def test_client_ids(recipe, title, role, expected):
    assert recipe("shakespeare").client_id(title, role) == expected


def test_limit(recipe, tmp_path):
    source = tmp_path / "ann.xml"
    source.write_text(XML)
    path = tmp_path / "out.sqlite"
    recipe("shakespeare").main(
        ["--source", str(source), "--output", str(path), "--limit", "1"]
    )
    train, test = read(path, tmp_path / "cache")
    assert [*train] == [*test] == ["THE_TALE_OF_ANN_QUEEN_OF_FOG_ANN"]


ENTITIES = """<!DOCTYPE PLAY [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>
<PLAY><TITLE>&b;</TITLE></PLAY>"""
OUTSIDE = """<!DOCTYPE PLAY [<!ENTITY a SYSTEM "file:///etc/hostname">]>
<PLAY><TITLE>&a;</TITLE></PLAY>"""
UNDECLARED = XML.replace("friend", "&friend;")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTITIES, "line 1: the entity 'a'"),
        (ENTITIES.encode("utf-16"), "not UTF-8"),
        (OUTSIDE, "line 1: the entity 'a'"),
        (UNDECLARED, "the entity 'friend'"),
        (XML[: len(XML) // 2], "no well-formed XML"),
        ("<HTML><TITLE>Fog</TITLE></HTML>", "its root is 'HTML'"),
        (XML.replace("SPEECH", "TALK"), "no role with two speeches"),
        ("no play at all", "no role with two speeches"),
        (b"\xff\xfe\xfa", "not UTF-8"),
    ],
)
def test_other_files_are_refused(recipe, tmp_path, text, message):
    source = tmp_path / "play.xml"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    out = tmp_path / "out" / "shakespeare.sqlite"
    with pytest.raises(FormatError, match=message):
        recipe("shakespeare").main(
            ["--source", str(source), "--output", str(out)]
        )
    assert [*out.parent.iterdir()] == []


def test_a_play_twice_is_refused(recipe, tmp_path):
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_text(XML)
    with pytest.raises(FormatError, match="Queen of Fog' twice"):
        recipe("shakespeare").roles(tmp_path)


def test_no_files(recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\.xml or \.txt"):
        recipe("shakespeare").roles(tmp_path)
