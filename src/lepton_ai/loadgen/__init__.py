"""A load for servers of OpenAI's interface, and what their clients would see. Nothing here knows how a server works."""
