"""Fine-tuning: a language model learns to foretell what people do with items."""
