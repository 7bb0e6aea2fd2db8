"""Making the recogniser smaller and its arithmetic integer, and measuring what that costs."""
