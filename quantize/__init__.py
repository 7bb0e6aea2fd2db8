"""Making the recogniser smaller and its arithmetic integer, and measuring the cost in accuracy."""
