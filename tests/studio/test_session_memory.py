"""A visitor's session does not grow with every answer, and ends soon after its page."""

import gradio as gr
from gradio.routes import App
from starlette.testclient import TestClient

from studio.actions.document import Document
from studio.gradio_compat.session_memory import forget_later, page_open, slim_sessions
from studio.widgets.roll.roll import PianoRoll


def test_a_session_holds_one_of_each_component() -> None:
    slim_sessions()
    slim_sessions()
    with gr.Blocks() as demo:
        roll, button, text = PianoRoll(elem_id="roll"), gr.Button(), gr.Textbox()
        button.click(lambda: {text: "as it was"}, None, [roll, text], queue=False)
        button.click(lambda: {roll: {"note": "another"}}, None, [roll, text], queue=False)
    client = TestClient(App.create_app(demo))
    for event in (0, 1) * 5:
        sent = {"data": [], "fn_index": event, "session_hash": "a"}
        assert client.post("/gradio_api/run/predict", json=sent).status_code == 200
    session = demo.state_holder["a"]
    assert len(session.blocks_config.blocks) == len(demo.blocks)
    assert all(number == block._id for number, block in session.blocks_config.blocks.items())
    assert list(session.components) == [], "no values for deep links"


def test_a_visit_ends_soon_after_its_page_and_not_while_one_is_open() -> None:
    slim_sessions()
    with gr.Blocks() as demo:
        document, button = gr.State(Document()), gr.Button()
        button.click(lambda document: document.folder() and None, document, None, queue=False)
    client = TestClient(App.create_app(demo))
    sent = {"data": [None], "fn_index": 0, "session_hash": "a"}
    assert client.post("/gradio_api/run/predict", json=sent).status_code == 200
    visit = demo.state_holder["a"].state_data[document._id]
    folder = visit.folder()
    with page_open("a"):  # the connection has come back meanwhile
        forget_later(demo, "a", 0.0).join()
        assert "a" in demo.state_holder
    forget_later(demo, "a", 0.0).join()
    assert "a" not in demo.state_holder
    assert not folder.exists(), "it was closed, not only dropped"
