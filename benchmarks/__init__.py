"""What mcsim costs, beside what people write instead: `python -m benchmarks`."""
