rule embed:
    input:
        shard=shard_to_embed,
        # Changes with the photos of the shard alone.
        digest=digest_to_embed,
        extractor=f"{EXTRACTORS}/extractor{TWIN}.tflite",
        # Another network's file is found before anything is embedded.
        compared=rules.take_compiled.output if BACKBONE.compiled else [],
    output:
        # update keeps the earlier file readable: photos that are in it are not embedded again.
        embeddings=update(f"{RESULTS}/embeddings/{{shard}}.npz"),
        # Where the job fails, Snakemake puts the earlier file back and takes it for new.
        complete=f"{RESULTS}/embeddings/{{shard}}.complete",
    log:
        f"{LOGS}/{BACKBONE.name}/embed_{{shard}}.log",
    conda:
        "../envs/retrain.yaml"
    # A job's threads share its start; more than this wait for one another.
    threads: 8
    resources:
        edgetpu=0 if DEVICE == "cpu" else 1,
    params:
        device=DEVICE,
        resize=config["resize"],
        # Another release may make other pixels of the same photo.
        preprocessing=preprocessing.version(config["resize"]),
    script:
        "../../scripts/embed.py"


rule collect_skipped:
    input:
        embeddings=EMBEDDINGS,
        complete=once_counted(embeddings_complete),
        manifest=manifest,
        not_photos=not_photos,
    output:
        skipped=f"{RESULTS}/skipped.tsv",
    log:
        f"{LOGS}/{BACKBONE.name}/collect_skipped.log",
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/collect_skipped.py"
