rule embed:
    input:
        unless_made_of("embed"),
        photos=photos_for("embed"),
        # A shard's table also changes when its photos have only moved.
        shard=there("embed", f"{DATASET_RESULTS}/shards/{{shard}}.tsv"),
        extractor=extractor,
        # Refuses a compiled extractor of another network before anything is embedded.
        compared=compared_with_compiled,
    output:
        embeddings=f"{BACKBONE_RESULTS}/embeddings/{{shard}}.npz",
        fingerprint=f"{BACKBONE_RESULTS}/embeddings/.{{shard}}.embed",
    log:
        f"{LOGS}/{{backbone}}/embed_{{shard}}.log",
    conda:
        "../envs/retrain.yaml"
    # Threads share the start-up time of a job, but more than 8 wait for one another.
    threads: 8
    resources:
        edgetpu=0 if PLAN.device == "cpu" else 1,
    params:
        fingerprint=fingerprint("embed"),
        device=PLAN.device,
        resize=SETTINGS.resize,
    script:
        "../../scripts/embed.py"


rule collect_skipped:
    input:
        unless_made_of("collect_skipped"),
        embeddings=embeddings,
        manifest=there("collect_skipped", MANIFEST),
        not_photos=there("collect_skipped", f"{DATASET_RESULTS}/not_photos.tsv"),
    output:
        skipped=f"{BACKBONE_RESULTS}/skipped.tsv",
        fingerprint=f"{BACKBONE_RESULTS}/.collect_skipped",
    log:
        f"{LOGS}/{{backbone}}/collect_skipped.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("collect_skipped"),
    script:
        "../../scripts/collect_skipped.py"
