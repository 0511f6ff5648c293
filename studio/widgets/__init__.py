"""Components with their own HTML, CSS and JavaScript."""
