"""Everything specific to Snakemake; the scripts of the rules import this package first.

It turns the configuration into the plan that the Snakefile builds its rules from. Fingerprints make
a job run again when its inputs change, and errors in jobs are reported as messages.
"""

from edgetpu_retrain.workflow import interrupt

interrupt.exit_silently()
