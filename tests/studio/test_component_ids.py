"""A visitor's session does not grow with every answer that leaves a component as it is."""

import gradio as gr
from gradio.routes import App
from starlette.testclient import TestClient

from studio.gradio_compat.component_ids import keep_numbers
from studio.widgets.roll.roll import PianoRoll


def test_a_session_holds_one_of_each_component() -> None:
    keep_numbers()
    keep_numbers()
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
    assert len(list(session.components)) == len(demo.blocks)
