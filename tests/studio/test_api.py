"""The endpoints for programs, called as programs call them, on a server of their own."""

import asyncio
import base64
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from engine.music.io.midi import read_midi_performance
from engine.music.io.write_musicxml import write_musicxml
from engine.render.provenance import read_description
from engine.untrusted.scores import open_score
from tests.helpers.command_line import little_piece

ROOT = Path(__file__).parents[2]
_SONG = ROOT / "tests" / "data" / "reading" / "v1-voice-and-piano.musicxml"
SONG = "data:application/xml;base64," + base64.b64encode(_SONG.read_bytes()).decode()
NAMES = (
    "compose", "compose_passage", "continue_piece", "infill", "edit_section", "perform", "preview", "render", "metrics",
    "transcribe", "export", "convert", "list_styles", "list_prompts", "list_conditions",
)  # fmt: skip


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))
    yield client
    client.close()


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    path = tmp_path / "piece.musicxml"
    path.write_bytes(write_musicxml(little_piece()))
    return path


def test_only_the_named_endpoints_are_public(client: Client) -> None:
    listed = client.view_api(return_format="dict", print_info=False)
    assert listed["named_endpoints"].keys() == {f"/{name}" for name in NAMES}
    assert listed["unnamed_endpoints"] == {}
    seed = next(p for p in listed["named_endpoints"]["/perform"]["parameters"] if p["parameter_name"] == "seed")
    assert (seed["type"]["type"], seed["parameter_has_default"]) == ("integer", True)


def test_the_example_of_the_documentation_runs(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    made: dict = {}
    exec(code.replace("http://127.0.0.1:7860", address), made)
    assert len(made["rows"]) > 5
    assert read_description(Path(made["sound"]).read_bytes())["seed"] == 1
    documented = set(re.findall(r"`/(\w+)`", (ROOT / "docs" / "api.md").read_text()))
    assert documented == set(NAMES)


def test_the_shell_recipe_of_the_documentation_runs(address: str, piece: Path) -> None:
    (code,) = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    piece.rename(piece.parent / "fugue.musicxml")
    code = code.replace("http://127.0.0.1:7860/", address)
    made = subprocess.run(["bash", "-ec", code], cwd=piece.parent, capture_output=True, text=True, timeout=120)
    assert "event: complete" in made.stdout, made
    assert '"seed": 3' in made.stdout
    assert "event: error" not in made.stdout


@pytest.mark.parametrize(
    "call, values, sentence",
    [
        ("call/perform", {"data": ["one"]}, "call/v2/NAME"),
        ("call/perform", {"data": []}, "call/v2/NAME"),
        (
            "call/v2/perform",
            {"score": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}},
            "not a file that",
        ),
        ("call/v2/compose", {"notes": "x"}, "notes is x"),
    ],
)
def test_a_failed_call_returns_the_reason(address: str, call: str, values: dict, sentence: str) -> None:
    asked = urllib.request.Request(
        f"{address}gradio_api/{call}", json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    event = json.loads(urllib.request.urlopen(asked).read())["event_id"]
    told = urllib.request.urlopen(f"{address}gradio_api/{call}/{event}", timeout=60).read().decode()
    (answer,) = [json.loads(data) for data in re.findall(r"event: error\ndata: (.*)", told)]
    assert sentence in answer["error"], told


def test_the_same_seed_gives_the_same_notes(client: Client, piece: Path) -> None:
    answers = [client.predict(score=handle_file(piece), seed=s, api_name="/perform") for s in (3, 3, 4)]
    first, same, other = (Path(path).read_bytes() for path, _ in answers)
    assert first == same != other
    assert len(read_midi_performance(first)) == len(little_piece())
    assert re.fullmatch("[0-9a-f]{12}", answers[0][1]["weights"]["pianist"])


def test_writing_on_keeps_what_was_there(client: Client, piece: Path) -> None:
    longer, _, about = client.predict(score=handle_file(piece), bars=2, seed=1, api_name="/continue_piece")
    assert about["bars"] == 10
    filled, _, _ = client.predict(score=handle_file(piece), first_bar=3, last_bar=4, seed=1, api_name="/infill")
    old = open_score(piece.read_bytes(), "piece")
    for path, kept in ((longer, old.onset_quarter < 32), (filled, (old.onset_quarter < 8) | (old.onset_quarter >= 16))):
        new = open_score(Path(path).read_bytes(), "new")
        notes = set(zip(new.onset_quarter.tolist(), new.pitch.tolist(), strict=True))
        before = zip(old.onset_quarter[kept].tolist(), old.pitch[kept].tolist(), strict=True)
        assert notes.issuperset(before)


def test_a_form_sets_the_bars(client: Client) -> None:
    score, _, about = client.predict(form="A2 B1 A2", meter="2/4", seed=1, api_name="/compose")
    assert about["bars"] == 5
    assert about["asked"]["form"] == "A2 B1 A2"
    new = open_score(Path(score).read_bytes(), "new")
    assert len(new.measures) == 5


def test_a_voice_is_left_out_or_played_by_choice(client: Client) -> None:
    notes = []
    for voice in (False, True):
        played, about = client.predict(score=SONG, voice=voice, api_name="/perform")
        notes.append(sorted(read_midi_performance(Path(played).read_bytes()).pitch.tolist()))
        assert [(r["bar"], r["element"]) for r in about["remarks"]] == [(1, "part “Voice”")]
    assert notes == [[48, 64], [48, 64, 79]]


def test_a_section_is_moved(client: Client, piece: Path) -> None:
    sent = {"score": handle_file(piece), "form": "A4 B4", "section": 2, "api_name": "/edit_section"}
    score, _, about = client.predict(**sent, action="move", to=1)
    assert about["form"] == "B4 A4"
    old, new = open_score(piece.read_bytes(), "piece"), open_score(Path(score).read_bytes(), "new")
    assert new.pitch.tolist() == [*old.pitch[old.onset_quarter >= 16], *old.pitch[old.onset_quarter < 16]]
    with pytest.raises(AppError, match="9 bars and the score 8"):
        client.predict(**{**sent, "form": "A4 B5"}, action="move", to=1)


def test_a_performance_is_exported(client: Client, piece: Path, tmp_path: Path) -> None:
    played, _ = client.predict(score=handle_file(piece), api_name="/perform")
    sent = {"performance": handle_file(played), "score": handle_file(piece)}
    table, about = client.predict(**sent, kind="notes", api_name="/export")
    assert about == {"notes": len(little_piece()), "matched": len(little_piece()), "kind": "notes"}
    assert len(Path(table).read_text(encoding="utf-8-sig").splitlines()) == 1 + len(little_piece())
    match, _ = client.predict(**sent, kind="match", api_name="/export")
    labels, about = client.predict(performance=handle_file(match), kind="labels", api_name="/export")
    assert labels.endswith("-labels.txt")
    assert about["matched"] == len(little_piece())
    with pytest.raises(AppError, match="does not contain its score"):
        client.predict(performance=handle_file(played), kind="beats", api_name="/export")


def test_a_score_is_converted_and_written_as_played(client: Client, piece: Path) -> None:
    same, about = client.predict(score=handle_file(piece), api_name="/convert")
    assert Path(same).read_bytes() == piece.read_bytes()
    assert about["notes"] == len(little_piece())
    for form, begins in (("mei", b"<?xml"), ("svg", b"PK"), ("html", b"<!DOCTYPE html>"), ("midi", b"MThd")):
        made, _ = client.predict(score=handle_file(piece), form=form, api_name="/convert")
        assert Path(made).read_bytes().startswith(begins)
    tune = "data:text/plain;base64," + base64.b64encode(b"X:1\nK:D\nDFAd|\n").decode()
    assert client.predict(score=tune, form="mei", api_name="/convert")[1]["notes"] == 4
    sent = {"score": handle_file(piece), "form": "played", "curve": "bar,tempo,strength.lower\n1,0,0.5\n2,1,"}
    played, about = client.predict(**sent, api_name="/perform")
    assert open_score(Path(played).read_bytes(), "played.musicxml").pitch.tolist() == little_piece().pitch.tolist()
    assert Path(played).read_text().count("<sound tempo=") > 2
    with pytest.raises(AppError, match='form is "pdf"; the choices are musicxml, mei, svg, html, midi'):
        client.predict(score=handle_file(piece), form="pdf", api_name="/convert")


def test_lists(client: Client) -> None:
    styles = client.predict(api_name="/list_styles")
    assert "Default" in styles["styles"]
    assert len(styles["sliders"]) == 9
    assert {p["name"] for p in client.predict(api_name="/list_prompts")} >= {"goldberg", "gymnopedie"}
    assert "Chopin" in client.predict(api_name="/list_conditions")["composers"]


@pytest.mark.parametrize(
    "endpoint, values, sentence",
    [
        ("compose", {"composer": "<img src=x onerror=f()>"}, r'The composer is "&lt;img.*the choices are'),
        ("compose", {"notes": 10**400}, "notes is 1000.*a number from 8 to 2,048"),
        ("compose", {"bars": 2.5}, "whole number"),
        ("compose_passage", {"model": "bach"}, 'The weights of the model "bach" are not installed'),
        ("compose", {"seed": True}, "The seed is True"),
        ("perform", {"score": None}, "not a file that was uploaded"),
        ("perform", {"score": SONG, "curve": "bar,speed\n1,1"}, 'a column "speed"; the columns are'),
        ("perform", {"score": {"path": "/etc/passwd"}}, "not a file that was uploaded"),
        ("perform", {"score": "data:;base64,!!!!"}, "not valid base64"),
        ("perform", {"score": "x" * 1000}, "is not a file"),
        ("perform", {"score": SONG, "voice": "loud"}, "it is true or false"),
        (
            "perform",
            {"score": {"path": "http://10.0.0.1/", "meta": {"_type": "gradio.FileData"}}},
            "Web addresses are not accepted",
        ),
        ("render", {"performance": None, "start_sec": 3, "end_sec": 2}, "ends before it begins"),
    ],
)
def test_refusals_are_one_sentence(client: Client, endpoint: str, values: dict, sentence: str) -> None:
    with pytest.raises(AppError, match=sentence) as refusal:
        client.predict(**values, api_name=f"/{endpoint}")
    assert "\n" not in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


def test_a_path_of_the_server_is_never_read(client: Client) -> None:
    """Not even with the mark of an upload; the file's text is in no answer."""
    value = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError) as refusal:
        client.predict(performance=value, api_name="/metrics")
    assert "root" not in str(refusal.value)


def test_mcp_lists_the_same_tools_and_calls_one(address: str, piece: Path) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk() -> tuple:
        async with (
            streamablehttp_client(f"{address}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as mcp,
        ):
            await mcp.initialize()
            tools = (await mcp.list_tools()).tools
            data = "data:application/xml;base64," + base64.b64encode(piece.read_bytes()).decode()
            return tools, await mcp.call_tool("perform", {"score": data, "seed": 3})

    tools, answer = asyncio.run(talk())
    assert {tool.name for tool in tools} == set(NAMES)
    perform = next(tool for tool in tools if tool.name == "perform")
    assert perform.inputSchema["properties"]["strength"]["type"] == "number"
    assert "amount of expression" in perform.inputSchema["properties"]["strength"]["description"]
    assert perform.inputSchema["required"] == ["score"]
    assert all(tool.description for tool in tools)
    assert not answer.isError
    (text,) = (part.text for part in answer.content)
    assert "'seed': 3" in text
    (file,) = set(re.findall(r"http://[^']+\.mid", text))
    assert len(read_midi_performance(urllib.request.urlopen(file).read())) == len(little_piece())
