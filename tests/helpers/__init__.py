"""Helpers of the tests.

``processes``           run ``syncer`` and ``server`` as real processes; clone databases
``ports``               find free ports
``pictures``            make small pictures
``many_files``          make folders of very many files, with rows for them
``corpus``              make files of every supported and unsupported kind, with the expected outcome
``synced_folder``       sync a folder in-process and inspect its bucket and rows
``expectation``         model the expected outcome of syncs and API calls
``stored_objects``      store and list objects, as this program or another one does
``queries``             query the database of a command
``waiting``             wait for a condition
``lives``               kill or disturb a process at any operation on database, store or disk
``hasty_syncer``        run ``syncer`` with short timeouts for Replicate
``filled_collections``  fill collections with vectors, without a syncer
``composed_queries``    send composed queries and upload pictures
``query_sentences``     sentences for the sample photos, and meaningless ones
``worker_tasks``        tasks for decoder workers
"""
