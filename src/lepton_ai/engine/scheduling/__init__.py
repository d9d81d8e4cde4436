"""Who runs next: order, fairness, priorities, and a step's budget of tokens."""
