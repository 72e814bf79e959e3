"""Features of videos: extracted, kept in stores, read at any time."""
