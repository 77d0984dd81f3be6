"""Where frames come from: cameras, clips, streams, pictures."""
