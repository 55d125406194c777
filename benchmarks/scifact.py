"""SciFact, all five ways to rank, on the dev half of its train queries: nDCG@10 and R@100."""
