# Snakemake does not look behind a file that is there: what it was made of may be gone. So that results
# deleted by hand are made again, the jobs that deliver count how often some were missed.
MISSED = ".snakemake/missed"


def behind(twin, num_shards):
    """The results that a model at the top is made of, itself among them."""
    twins = sorted({"", TWIN, twin})
    paths = [path for found in index_outputs().values() for path in _listed(found)]
    paths = sorted({*paths, *shards(num_shards), *digests(num_shards)})
    paths += embeddings(num_shards) + embeddings_complete(num_shards)
    paths += rules.collect_skipped.output + rules.train.output
    paths += rules.evaluate.output + rules.plot_confusion_matrix.output
    paths += expand(rules.serialize.output, twin=twins)
    paths += rules.make_extractor.output + rules.report.output
    if BACKBONE.CALIBRATED:
        paths += rules.choose_calibration_photos.output + rules.quantize.output
    if "_edgetpu" in twins:
        paths += (rules.take_compiled if BACKBONE.compiled else rules.compile).output
    # Plain text, without the flags of outputs; their times are looked at where they are used.
    return ancient([str(path) for path in paths])


def _listed(found):
    return [found] if isinstance(found, str) else found


@functools.cache
def times_missed():
    """How often results were missed behind a model at the top; a change of it delivers again."""
    count = files.counted(MISSED)
    missed = set()
    num_shards = 0 if config["shards"] == "auto" else config["shards"]
    for twin in ("", "_edgetpu"):
        if os.path.exists(f"retrained_model{twin}.tflite"):
            missed |= {*behind(twin, num_shards), *rules.deliver.output}
    if not all(map(os.path.exists, missed)):
        count += 1
        if workflow.is_main_process and not workflow.output_settings.dryrun:
            files.count_up(MISSED)
    return count
