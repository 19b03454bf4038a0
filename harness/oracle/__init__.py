"""What is right: the float64 truth, the error a precision may have, and a plain model of the AMP step."""
