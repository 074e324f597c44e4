"""How the authors' losses are called where they are an ablation of ours."""

from multibodies_jax.evaluation import ablations

ablations.WORDS.register("loss.reading", {"released": "released losses"})
