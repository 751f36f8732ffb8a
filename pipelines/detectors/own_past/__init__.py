"""What a single tag's own past says of its next value: statistics, their tail probabilities, and bursts of surprise."""
