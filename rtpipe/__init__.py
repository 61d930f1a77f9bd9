"""rtpipe: a real-time streaming pipeline for event cameras."""
