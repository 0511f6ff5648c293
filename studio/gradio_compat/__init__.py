"""Every use of Gradio's private API."""
