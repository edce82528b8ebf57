"""All that knows Snakemake; the scripts of the rules import it first.

The configuration goes in. Out comes the plan that the Snakefile turns into rules, and jobs that run
again when what they depend on changes and that end in sentences.
"""

from edgetpu_retrain.workflow import interrupt

interrupt.end_silently()
