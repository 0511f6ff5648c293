"""How events are answered and what is sent to the browser."""
