"""The harness itself on trial: a catalogue of known faults and of right implementations, and what it says of each."""
