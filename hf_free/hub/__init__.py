"""Everything that talks to a Hub: names, the client, and a small Hub on loopback."""
