"""The actions of a visitor, as functions of a Session. No Gradio here."""
