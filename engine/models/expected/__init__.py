"""The expected performance: the average human performance, from small networks over beats and notes."""
