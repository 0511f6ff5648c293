"""Every use of Gradio's private parts."""
