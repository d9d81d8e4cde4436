"""Who is let in: what a request costs, how much may wait, and when to come again."""
