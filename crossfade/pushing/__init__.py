"""The inside of `crossfade.push`: what waits, who delivers it, and what is counted."""
