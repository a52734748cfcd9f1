"""What may go wrong, each with its number, and the tests that show what happens then.

Rows: U of providers, C of clients, P of the process and its machine, R of the store, B and L of what races there. A
test stands as `folder/file::name` below tests/, without `test_` and `.py`; `test_faults_rows.py` sees that it is there.
"""

_ANSWERS, _STREAMS = "faults/faults_provider_answers", "faults/faults_provider_streams"
_FAILOVER, _HTTP = "faults/faults_provider_failover", "faults/faults_client_http"
_SLOW, _JSON = "faults/faults_client_deadlines", "faults/faults_client_json"
_LARGE = "faults/faults_large"
_FAILS = f"{_ANSWERS}::a_provider_that_fails_before_its_first_word_is_a_502"
_BREAKS = f"{_STREAMS}::a_stream_that_breaks_says_so_and_is_charged_for_what_came"
_ODD = f"{_STREAMS}::a_stream_that_is_odd_and_whole_is_served_and_charged_as_its_provider_counts"
_LEAVING, _LIFE, _LEDGER = "gateway/gateway_leaving", "gateway/gateway_life", "gateway/gateway_ledger"
_OUTSIDE, _AWAY, _OUTAGE = "gateway/gateway_store_outside", "gateway/gateway_store_away", "gateway/gateway_store_outage"
_CLUSTER, _SETTLE, _ADMIT = "stores/store_cluster", "stores/store_settle", "stores/store_admit"
_LOST, _SINK = "stores/store_lost_replies", "ledger/sink"

ROWS: dict[str, tuple[str, ...]] = {
    # a provider
    "U-01 refuses": (
        f"{_FAILOVER}::a_provider_that_cannot_be_reached_is_a_502_and_costs_nothing_u01_u02",
        f"{_FAILOVER}::the_next_is_asked_in_its_place_u01_u02",
    ),
    "U-02 has no address, or nobody is there": (
        f"{_FAILOVER}::a_provider_that_cannot_be_reached_is_a_502_and_costs_nothing_u01_u02",
    ),
    "U-03 hangs before its head": (_FAILS, f"{_FAILOVER}::a_route_that_is_silent_is_given_up_for_the_next_u03"),
    "U-04 hangs in its stream": (_FAILS, _BREAKS),
    "U-05 speaks something else": (_FAILS, _BREAKS),
    "U-06 breaks off": (
        _FAILS,
        _BREAKS,
        "gateway/gateway_stream_endings::a_provider_that_dies_at_any_event_leaves_no_silent_end",
    ),
    "U-07 answers 5xx": (
        _FAILS,
        f"{_FAILOVER}::while_everything_fails_providers_are_asked_hardly_more_often_than_clients_ask_u07",
    ),
    "U-08 is limited or overloaded": (
        _FAILS,
        f"{_ANSWERS}::a_provider_s_retry_after_is_passed_on_u08",
        f"{_FAILOVER}::a_route_that_asks_for_a_pause_is_asked_again_when_it_is_over_u08",
    ),
    "U-09 says an error in its 200": (
        _FAILS,
        _BREAKS,
        f"{_STREAMS}::what_was_reported_before_the_break_is_what_is_charged_u09",
    ),
    "U-10 sends one huge event, or crumbs": (
        _ODD,
        f"{_STREAMS}::an_event_of_eight_mebibytes_is_served_u10",
        f"{_LARGE}::no_event_of_a_stream_takes_many_times_its_size_of_a_worker",
        "upstream/pump_beside::what_is_large_is_read_beside_the_loop_and_nothing_more_is_taken_meanwhile",
        f"{_STREAMS}::a_hundred_thousand_tiny_chunks_cost_no_memory_u10",
    ),
    "U-11 writes its events in odd ways": (
        _ODD,
        "gateway/gateway_streams::bytes_that_come_in_crumbs_are_the_same_stream",
    ),
    "U-12 tells no usage": (
        f"{_STREAMS}::usage_that_cannot_be_true_is_estimated_u12_u14",
        "real/estimate::the_estimate_of_prose_is_near_a_real_models_count_u12",
    ),
    "U-13 tells usage again and again": (_ODD,),
    "U-14 tells usage that cannot be": (f"{_STREAMS}::usage_that_cannot_be_true_is_estimated_u12_u14",),
    "U-15 says another content type": (_FAILS, _BREAKS, _ODD),
    "U-16 compresses": (_FAILS, f"{_STREAMS}::a_stream_that_is_compressed_is_refused_u16"),
    "U-17 redirects": (f"{_ANSWERS}::a_redirect_is_never_followed_u17",),
    "U-18 answers what nobody asked": (f"{_ANSWERS}::what_nobody_asked_for_is_served_to_nobody_u18",),
    "U-19 sends headers that are none": (
        f"{_ANSWERS}::headers_that_are_none_make_no_answer_u19",
        f"{_ANSWERS}::no_header_of_a_provider_reaches_a_client",
    ),
    "U-20 answers with odd statuses": (
        _FAILS,
        _ODD,
        f"{_ANSWERS}::a_few_informational_answers_are_passed_over_u20",
        f"{_ANSWERS}::a_body_behind_an_answer_that_has_none_closes_the_connection_u20",
    ),
    "U-21 never ends": (
        f"{_STREAMS}::a_stream_without_end_is_cut_by_its_bytes_u21",
        f"{_STREAMS}::an_answer_that_drips_without_end_is_cut_by_its_time_u21",
    ),
    "U-22 takes its time": ("upstream/pump::a_stream_of_half_an_hour_is_served_u22",),
    "U-23 all fail, then are back": (
        f"{_FAILOVER}::when_everything_is_back_everything_is_served_at_once_u23",
        f"{_FAILOVER}::a_dead_route_is_passed_over_and_comes_back_by_itself",
    ),
    # a client
    "C-01 leaves before its provider is asked": (
        f"{_HTTP}::a_client_that_ends_within_its_request_costs_nothing",
        f"{_LEAVING}::one_that_leaves_before_its_body_was_sent_reaches_nobody",
    ),
    "C-02 leaves before the first byte": (
        f"{_LEAVING}::one_that_leaves_before_any_answer_is_charged_its_prompt",
        f"{_LEAVING}::one_that_leaves_before_the_first_word_of_a_stream",
    ),
    "C-03 leaves in a stream": (
        f"{_LEAVING}::whenever_one_leaves_the_provider_is_let_go_and_what_was_produced_is_charged",
        f"{_LEAVING}::whenever_one_leaves_a_provider_that_is_drained_is_paid_what_it_says_in_the_end",
    ),
    "C-04 leaves while the provider is silent": (
        f"{_LEAVING}::one_that_leaves_while_the_provider_is_silent_is_noticed_at_once",
    ),
    "C-05 reads slowly or not at all": (
        f"{_SLOW}::streams_that_are_not_read_hold_their_provider_back_and_take_little_memory",
        f"{_SLOW}::a_client_that_asks_and_never_reads_is_not_read_on_and_then_cut",
    ),
    "C-06 sends no head": (
        f"{_SLOW}::a_head_that_does_not_come_in_time_is_given_up",
        f"{_SLOW}::a_head_that_drips_is_given_up",
        f"{_SLOW}::a_connection_on_which_nothing_comes_ends_without_a_word",
    ),
    "C-07 sends no body": (
        f"{_SLOW}::a_body_that_does_not_come_is_given_up",
        f"{_SLOW}::a_body_that_drips_is_given_up",
    ),
    "C-08 sends too much": (f"{_SLOW}::a_body_that_is_refused_is_not_read_on",),
    "C-09 sends JSON that is none": (
        f"{_JSON}::what_is_no_json_object_is_refused_as_such_and_not_quoted",
        f"{_JSON}::of_a_key_that_comes_twice_the_last_counts",
    ),
    "C-10 sends JSON that grows": (
        f"{_JSON}::no_body_takes_many_times_its_size",
        f"{_LARGE}::no_body_of_a_client_takes_many_times_its_size_of_a_worker_c10",
    ),
    "C-11 sends many at once": (
        f"{_HTTP}::one_hundred_requests_at_once_are_answered_in_their_order",
        f"{_SLOW}::a_client_that_asks_and_never_reads_is_not_read_on_and_then_cut",
    ),
    "C-12 sends no more, and waits": (
        f"{_HTTP}::a_client_that_sends_no_more_still_gets_its_answer",
        "gateway/gateway_half_close::a_long_stream_is_served_to_its_end",
        "gateway/gateway_half_close::one_that_stops_waiting_for_an_answer_is_missed",
    ),
    "C-13 are many and idle": (f"{_SLOW}::idle_connections_are_capped_and_take_little_memory",),
    # the process and its machine
    "P-01 is told to stop": (
        f"{_LIFE}::the_signal_to_stop_lets_open_streams_end_and_settles_them",
        "gateway/gateway_rolling::after_the_signal_to_stop_it_is_not_ready_and_serves_until_it_is_told_again",
        "gateway/gateway_rolling::a_rolling_restart_of_two_gateways_fails_no_request",
        f"{_LIFE}::what_is_open_when_its_time_to_stop_is_over_is_cut",
    ),
    "P-02 is told twice": (f"{_LIFE}::the_second_signal_cuts_what_is_open_with_an_error_and_charges_it",),
    "P-03 is killed": (
        f"{_LEDGER}::a_gateway_that_is_killed_has_every_row_when_it_starts_again",
        f"{_LEDGER}::a_worker_that_is_killed_loses_nothing_and_doubles_nothing",
        f"{_LEDGER}::a_stream_that_lasts_is_billed_at_its_last_mark_when_its_gateway_is_killed",
    ),
    "P-04 runs out of memory": (
        "gateway/gateway_rolling::without_memory_it_refuses_completions_and_nothing_else",
        "test_gateway_pressure::clients_that_have_stalled_longest_are_dropped_first_p04",
    ),
    "P-05 has a clock that jumps": (
        "gateway/gateway_clock::what_runs_goes_on_and_what_comes_is_limited_by_the_time_of_the_store",
        "gateway/gateway_clock::a_provider_that_falls_silent_is_still_given_up",
    ),
    "P-06 has a full disk": (
        f"{_LEDGER}::while_the_journal_s_disk_is_full_requests_are_refused_and_nothing_of_those_before_is_lost",
        f"{_LEDGER}::while_the_journal_s_disk_is_full_requests_may_continue_and_their_rows_follow",
        "ledger/journal::a_disk_that_takes_too_long_is_trouble_before_it_is_done",
    ),
    "P-07 finds a torn journal": (
        "ledger/journal_frames::a_last_frame_that_is_torn_anywhere_leaves_those_before_it",
        f"{_SINK}::a_torn_last_record_is_passed_over_counted_and_kept_for_a_person",
    ),
    "P-08 is given wrong files": (
        "gateway/gateway_reload::a_file_with_a_mistake_changes_nothing_and_log_and_metric_say_so",
    ),
    "P-09 is held up": (
        "test_metrics_machine::a_late_timer_is_counted_when_it_is_flushed",
        f"{_JSON}::a_body_has_no_more_lists_and_objects_than_the_bound",
        f"{_LARGE}::no_answer_of_a_provider_takes_many_times_its_size_of_a_worker",
    ),
    "P-10 has no file descriptors": (
        "gateway/gateway_shortage::without_file_descriptors_it_refuses_connections_and_recovers",
    ),
    # the store
    "R-01 is down at the start": (f"{_OUTSIDE}::it_starts_before_its_store_and_is_ready_by_itself_when_that_comes",),
    "R-02 refuses": ("stores/store_faults::a_port_that_refuses_is_noticed_and_used_again_when_it_opens",),
    "R-03 does not answer": (
        f"{_AWAY}::while_the_store_does_not_answer_nothing_is_admitted_and_readiness_says_why",
        "stores/store_breaker::five_late_answers_in_a_row_open_it_and_four_do_not",
    ),
    "R-04 is slow": (f"{_AWAY}::what_ends_while_the_store_is_away_is_settled_once_when_it_is_back",),
    "R-05 is restarted": (
        f"{_AWAY}::a_store_that_is_killed_comes_back_by_itself_with_all_it_knew",
        "stores/reconcile::counters_that_the_store_lost_are_there_again_in_every_period",
    ),
    "R-06 fails over and forgets": (
        "gateway/gateway_store_failover::what_the_replica_never_heard_of_is_charged_all_the_same",
    ),
    "R-07 has sentinels": (f"{_OUTSIDE}::a_gateway_follows_a_failover_of_its_store",),
    "R-08 is a cluster that moves": (
        f"{_CLUSTER}::a_slot_that_moves_again_and_again_costs_no_call_an_error",
        f"{_CLUSTER}::a_slot_that_stays_half_way_is_given_up_with_the_reason",
    ),
    "R-09 has no memory": (f"{_SETTLE}::a_full_memory_refuses_new_requests_and_settles_old_ones",),
    "R-10 forgets the scripts": (f"{_SETTLE}::scripts_that_the_server_forgot_are_loaded_again",),
    "R-11 runs a long script": ("stores/store_faults::a_server_that_runs_a_long_script_is_away_until_it_ends",),
    "R-12 has a full disk": (
        "stores/store_faults::a_full_disk_makes_the_server_away_with_its_own_reason_until_there_is_room",
    ),
    "R-13 knows another password": (f"{_OUTSIDE}::a_wrong_password_is_one_line_and_no_crash",),
    "R-14 gives a reply to another request": (
        "stores/store_desync::an_admission_of_another_request",
        "stores/store_desync::a_settlement_of_another_request",
        "stores/store_connection::a_reply_that_nobody_asked_for_is_never_given_to_a_later_call",
    ),
    "R-15 has a clock that jumps": ("stores/store_clock::after_a_jump_a_used_up_rate_is_free_again_within_a_window",),
    # races there
    "B-01 many for the last room": ("stores/store_races::processes_that_race_are_given_exactly_what_there_is",),
    "B-02 one request admitted twice": (f"{_ADMIT}::the_same_request_admitted_twice_is_held_once",),
    "B-03 two limits, the second refuses": (
        "gateway/gateway_limits::a_refusal_by_one_limit_takes_nothing_of_the_others",
    ),
    "B-04 a limit below its use": (f"{_ADMIT}::limits_lowered_below_what_is_used_leave_nothing_and_never_less",),
    "B-05 holders that died": (f"{_LOST}::a_thousand_holders_that_died_hold_nothing_after_their_lease",),
    "L-01 settled twice, or late": (
        f"{_SETTLE}::settling_twice_charges_once",
        f"{_SETTLE}::a_request_settled_after_its_lease_ran_out_is_charged_once",
    ),
    "L-02 a settlement's reply is lost": (
        f"{_LOST}::a_settlement_whose_reply_was_lost_is_sent_again_and_charged_once",
    ),
    "L-03 killed between row and segment": (f"{_SINK}::recovery_that_is_killed_at_any_step_loses_and_doubles_nothing",),
    "L-04 the ledger is away": (
        f"{_SINK}::while_the_ledger_is_away_rows_wait_and_nothing_of_the_journal_goes",
        f"{_LEDGER}::a_gateway_whose_ledger_is_away_serves_and_says_so",
    ),
    "L-05 a row that is refused": (
        f"{_SINK}::a_row_that_the_ledger_refuses_is_set_aside_after_three_tries_and_others_go_on",
    ),
    "L-06 counters that drift": ("stores/counter_keeper::a_counter_that_was_changed_by_hand_is_right_again_by_itself",),
}
