"""Where answers go: window, page, recording, lines of JSON, commands."""
