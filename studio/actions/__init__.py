"""What a visitor can do, as functions of a Session; no Gradio here."""
