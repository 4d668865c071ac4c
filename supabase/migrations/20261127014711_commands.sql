-- Agents, the commands they are given, and the record of every action on a machine or a container.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged. Errors that callers can do something about have the codes
-- that PostgREST turns into a status: PT400, PT403, PT404, PT409, PT429.

-- Who may do what ----------------------------------------------------------------------------------------------------

create or replace function public.cf_is_reader() returns boolean
language sql stable set search_path = '' as $$
  select coalesce(public.cf_role() in ('viewer', 'operator', 'admin', 'agent'), false)
$$;
comment on function public.cf_is_reader() is
  'Whether the caller may read what Crossfade knows. An agent may: it is told of its commands as any client is of events.';

create function public.cf_may_control() returns boolean
language sql stable set search_path = '' as $$
  select coalesce(public.cf_role() in ('operator', 'admin'), false) or coalesce(auth.jwt() ->> 'role', '') = 'service_role'
$$;
comment on function public.cf_may_control() is 'Whether the caller may have something done.';

create function public.cf_caller_name() returns text
language sql stable set search_path = '' as $$
  select pg_catalog.left(coalesce(
    nullif(auth.jwt() -> 'app_metadata' ->> 'crossfade_name', ''), nullif(auth.jwt() ->> 'email', ''),
    nullif(auth.jwt() ->> 'sub', ''), auth.jwt() ->> 'role', ''), 200)
$$;
comment on function public.cf_caller_name() is
  'Who calls, for records: the name that the project gave it (users cannot write app_metadata), else its address or subject.';

create function public.cf_require_operator() returns void
language plpgsql stable set search_path = '' as $$
begin
  if not public.cf_may_control() then
    raise exception 'this needs an operator: app_metadata.crossfade_role must be operator or admin' using errcode = 'PT403';
  end if;
end $$;

create function public.cf_require_agent(p_agent text) returns void
language plpgsql stable set search_path = '' as $$
begin
  if coalesce(auth.jwt() ->> 'role', '') = 'service_role' then
    return;
  end if;
  if public.cf_role() is distinct from 'agent' or public.cf_caller_name() is distinct from p_agent then
    raise exception 'this token is not that of agent %', pg_catalog.left(p_agent, 128) using errcode = 'PT403',
      hint = 'Its app_metadata must have crossfade_role agent, and the agent''s name as crossfade_name.';
  end if;
end $$;

-- The record ---------------------------------------------------------------------------------------------------------

create table public.cf_audit (
  id uuid primary key default gen_random_uuid(),
  at timestamptz not null default pg_catalog.clock_timestamp(),
  who text not null,
  role text not null,
  action text not null check (octet_length(action) between 1 and 100),
  device text not null check (octet_length(device) <= 128),
  target text not null check (octet_length(target) <= 300),
  detail jsonb not null default '{}',
  outcome text,
  finished_at timestamptz
);
comment on table public.cf_audit is
  'Who had what done, when, and what came of it: commands to agents and to containers, keys. A row is written before the
action; while its outcome is null the action is under way, or nobody lived to say how it ended. Kept for 400 days.';
create index cf_audit_at on public.cf_audit (at desc, id);

create function public.cf_audit_begin(p_id uuid, p_action text, p_device text, p_target text, p_detail jsonb) returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform public.cf_require_operator();
  if pg_catalog.octet_length(p_detail::text) > 20000 then
    raise exception 'the detail of an action is larger than 20,000 bytes' using errcode = 'PT400';
  end if;
  insert into public.cf_audit (id, who, role, action, device, target, detail)
  values (p_id, public.cf_caller_name(), coalesce(public.cf_role(), auth.jwt() ->> 'role', ''), p_action, p_device, p_target,
    p_detail)
  on conflict (id) do nothing;   -- said again, as the answer was not heard
end $$;
comment on function public.cf_audit_begin(uuid, text, text, text, jsonb) is
  'Write down what an operator is about to have done; without this row it is not done.';

create function public.cf_audit_end(p_id uuid, p_outcome text, p_detail jsonb) returns void
language sql security definer set search_path = '' as $$
  update public.cf_audit
  set outcome = pg_catalog.left(p_outcome, 500), finished_at = pg_catalog.clock_timestamp(),
    detail = detail || case when pg_catalog.octet_length(p_detail::text) <= 20000 then p_detail else '{}' end
  where id = p_id and outcome is null and who = public.cf_caller_name() and public.cf_may_control()
$$;
comment on function public.cf_audit_end(uuid, text, jsonb) is 'Write down, once, what came of an action of the caller''s.';

-- Agents and commands ------------------------------------------------------------------------------------------------

create table public.cf_agents (
  name text primary key check (octet_length(name) between 1 and 128),
  instance uuid not null,
  version text not null,
  offers jsonb not null check (jsonb_typeof(offers) = 'object'),
  registered_at timestamptz not null default pg_catalog.clock_timestamp(),
  heard_at timestamptz not null default pg_catalog.clock_timestamp()
);
comment on table public.cf_agents is
  'The agents: what each may run as its own file says ({name: {description, parameters, timeout_seconds}}), and when it was
heard last. The instance is one life of its process; an older life is fenced.';

create table public.cf_commands (
  id uuid primary key,
  agent text not null references public.cf_agents (name),
  command text not null check (octet_length(command) between 1 and 100),
  parameters jsonb not null check (jsonb_typeof(parameters) = 'object'),
  state text not null check (state in ('queued', 'taken', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled',
    'refused', 'expired', 'lost')),
  idempotency_key text unique check (octet_length(idempotency_key) between 1 and 200),
  submitted_by text not null,
  submitted_at timestamptz not null default pg_catalog.clock_timestamp(),
  expires_at timestamptz not null,
  timeout_seconds double precision not null check (timeout_seconds > 0 and timeout_seconds <= 86400),
  instance uuid,
  taken_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  progress double precision check (progress between 0 and 100),
  message text not null default '',
  exit_code int,
  output text not null default '' check (octet_length(output) <= 65536),
  cancel_asked_by text,
  cancel_asked_at timestamptz,
  changed_at timestamptz not null default pg_catalog.clock_timestamp(),
  revision int not null default 1
);
comment on table public.cf_commands is
  'What agents were asked to run: one row a command, written by the functions below alone. Finished ones are kept for 90
days, and so is what their idempotency keys stand for.';
create index cf_commands_open on public.cf_commands (agent, submitted_at) where state in ('queued', 'taken', 'running');
create index cf_commands_newest on public.cf_commands (submitted_at desc, id);
create index cf_commands_finished on public.cf_commands (finished_at) where finished_at is not null;

create table public.cf_outbox (
  number bigint generated always as identity primary key,
  id uuid not null default gen_random_uuid(),
  kind text not null,
  at timestamptz not null default pg_catalog.clock_timestamp(),
  payload jsonb not null
);
comment on table public.cf_outbox is
  'Events of crossfade/commands that have not reached a spool yet: written with the change they tell of, taken away by the
control service once they are on its disk. Not published, and no reader''s business.';

create function public.cf_command_changed() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  c_final constant text[] := '{succeeded,failed,timed_out,cancelled,refused,expired,lost}';
begin
  insert into public.cf_outbox (kind, payload) values ('command_changed', pg_catalog.jsonb_build_object(
    'id', new.id, 'agent', new.agent, 'command', new.command, 'state', new.state, 'progress', new.progress,
    'message', new.message, 'exit_code', new.exit_code, 'submitted_by', new.submitted_by,
    'cancel_asked_by', new.cancel_asked_by, 'revision', new.revision));
  if tg_op = 'INSERT' then
    insert into public.cf_audit (id, who, role, action, device, target, detail)
    values (new.id, new.submitted_by, coalesce(public.cf_role(), auth.jwt() ->> 'role', ''), 'command', new.agent,
      new.command, pg_catalog.jsonb_build_object('parameters', new.parameters, 'key', new.idempotency_key));
  elsif new.state = any (c_final) and new.state is distinct from old.state then
    update public.cf_audit
    set outcome = new.state, finished_at = pg_catalog.clock_timestamp(), detail = detail || pg_catalog.jsonb_build_object(
      'exit_code', new.exit_code, 'message', new.message)
    where id = new.id;
  end if;
  perform pg_catalog.pg_notify('cf_commands', new.agent);
  return null;
end $$;

create trigger cf_command_changed after insert or update on public.cf_commands
for each row execute function public.cf_command_changed();

create function public.cf_command_json(p_row public.cf_commands) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.to_jsonb(p_row) - 'instance'
$$;

create function public.cf_submit_command(
  p_id uuid, p_agent text, p_command text, p_parameters jsonb, p_key text, p_timeout_seconds double precision,
  p_expires_seconds double precision
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  c_most constant int := 1000;   -- commands that may wait for one agent
  v_agent public.cf_agents;
  v_row public.cf_commands;
begin
  perform public.cf_require_operator();
  select * into v_row from public.cf_commands where id = p_id and submitted_by = public.cf_caller_name();
  if found then   -- said again, as the answer was not heard
    return public.cf_command_json(v_row) || '{"repeated": false}';
  end if;
  if p_key is not null then
    -- One at a time for one key, so that of two requests at once one makes the command and the other is shown it.
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('cf_commands:' || p_key, 0));
    select * into v_row from public.cf_commands where idempotency_key = p_key;
    if found then
      if (v_row.agent, v_row.command, v_row.parameters) is distinct from (p_agent, p_command, p_parameters) then
        raise exception 'the idempotency key stands for another command already: % on %, %', v_row.command, v_row.agent,
          v_row.id using errcode = 'PT409', hint = 'Choose another key, or leave the command as it was.';
      end if;
      return public.cf_command_json(v_row) || '{"repeated": true}';
    end if;
  end if;
  select * into v_agent from public.cf_agents where name = p_agent;
  if not found then
    raise exception 'no agent % has ever registered', pg_catalog.left(p_agent, 128) using errcode = 'PT404',
      hint = 'Run crossfade agent on that machine; crossfade commands agents lists those there are.';
  end if;
  if not pg_catalog.jsonb_exists(v_agent.offers, p_command) then
    raise exception 'agent % may not run %; it may run %', v_agent.name, pg_catalog.left(p_command, 100),
      coalesce((select pg_catalog.string_agg(k, ', ' order by k) from pg_catalog.jsonb_object_keys(v_agent.offers) as k),
        'nothing') using errcode = 'PT404';
  end if;
  if (select count(*) from public.cf_commands where agent = p_agent and state = 'queued') >= c_most then
    raise exception '% commands wait for agent % already', c_most, v_agent.name using errcode = 'PT429',
      hint = 'See whether the agent runs; cancel what is not wanted any more.';
  end if;
  insert into public.cf_commands (id, agent, command, parameters, state, idempotency_key, submitted_by, timeout_seconds,
    expires_at)
  values (p_id, p_agent, p_command, p_parameters, 'queued', p_key, public.cf_caller_name(), p_timeout_seconds,
    pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => p_expires_seconds))
  returning * into v_row;
  return public.cf_command_json(v_row) || '{"repeated": false}';
end $$;

create function public.cf_cancel_command(p_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_row public.cf_commands;
begin
  perform public.cf_require_operator();
  select * into v_row from public.cf_commands where id = p_id for update;
  if not found then
    raise exception 'there is no command %', p_id using errcode = 'PT404';
  end if;
  if v_row.state = 'queued' then
    update public.cf_commands set state = 'cancelled', cancel_asked_by = public.cf_caller_name(), message = 'cancelled before it began',
      cancel_asked_at = pg_catalog.clock_timestamp(), finished_at = pg_catalog.clock_timestamp(),
      changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
    where id = p_id returning * into v_row;
  elsif v_row.state in ('taken', 'running') then
    if v_row.cancel_asked_at is null then
      update public.cf_commands set cancel_asked_by = public.cf_caller_name(), cancel_asked_at = pg_catalog.clock_timestamp(),
        changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
      where id = p_id returning * into v_row;
    end if;
  elsif v_row.state <> 'cancelled' then
    raise exception 'command % has ended already: %', p_id, v_row.state using errcode = 'PT409';
  end if;
  insert into public.cf_audit (who, role, action, device, target, detail, outcome, finished_at)
  values (public.cf_caller_name(), coalesce(public.cf_role(), auth.jwt() ->> 'role', ''), 'command cancel', v_row.agent,
    v_row.command, pg_catalog.jsonb_build_object('command', p_id), v_row.state, pg_catalog.clock_timestamp());
  return public.cf_command_json(v_row);
end $$;
comment on function public.cf_cancel_command(uuid) is
  'End a command: at once while nobody has taken it, else by asking its agent, which tells when it has.';

-- What agents call -----------------------------------------------------------------------------------------------------

create function public.cf_register_agent(p_name text, p_instance uuid, p_version text, p_offers jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_lost int;
begin
  perform public.cf_require_agent(p_name);
  if pg_catalog.octet_length(p_offers::text) > 200000 then
    raise exception 'the list of what the agent may run is larger than 200,000 bytes' using errcode = 'PT400';
  end if;
  insert into public.cf_agents (name, instance, version, offers)
  values (p_name, p_instance, pg_catalog.left(p_version, 100), p_offers)
  on conflict (name) do update set instance = p_instance, version = pg_catalog.left(p_version, 100), offers = p_offers,
    registered_at = pg_catalog.clock_timestamp(), heard_at = pg_catalog.clock_timestamp();
  update public.cf_commands set state = 'lost', finished_at = pg_catalog.clock_timestamp(),
    message = case when state = 'taken' then 'its agent ended before it told that it had begun; it is not run again'
      else 'its agent ended while it ran; what it had done by then is not known, and it is not run again' end,
    changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
  where agent = p_name and state in ('taken', 'running') and instance <> p_instance;
  get diagnostics v_lost = row_count;
  return pg_catalog.jsonb_build_object('lost', v_lost);
end $$;
comment on function public.cf_register_agent(text, uuid, text, jsonb) is
  'Begin one life of an agent: an older one is fenced, and what it had taken and not told the end of is lost.';

create function public.cf_poll_commands(p_agent text, p_instance uuid, p_have uuid[], p_most int) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_given jsonb;
begin
  perform public.cf_require_agent(p_agent);
  update public.cf_agents set heard_at = pg_catalog.clock_timestamp() where name = p_agent and instance = p_instance;
  if not found then
    raise exception 'agent % is not registered, or another process has registered as it since', pg_catalog.left(p_agent, 128)
      using errcode = 'PT409', hint = 'End one of them, or give it another --name.';
  end if;
  with next as (
    select id from public.cf_commands
    where agent = p_agent and state = 'queued' and expires_at > pg_catalog.clock_timestamp()
    order by submitted_at, id limit greatest(p_most, 0) for update skip locked
  )
  update public.cf_commands c set state = 'taken', instance = p_instance, taken_at = pg_catalog.clock_timestamp(),
    changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
  from next where c.id = next.id;
  -- Those taken before are given again until the agent says that it has them: an answer may have been lost.
  select coalesce(pg_catalog.jsonb_agg(public.cf_command_json(c) order by c.submitted_at, c.id), '[]') into v_given
  from public.cf_commands c
  where c.agent = p_agent and c.instance = p_instance and c.state = 'taken' and c.id <> all (p_have);
  return pg_catalog.jsonb_build_object('commands', v_given, 'cancel', (
    select coalesce(pg_catalog.jsonb_agg(id), '[]') from public.cf_commands
    where agent = p_agent and instance = p_instance and state in ('taken', 'running') and cancel_asked_at is not null));
end $$;
comment on function public.cf_poll_commands(text, uuid, uuid[], int) is
  'Take up to so many commands, each for one life of the agent and never again, and hear which are to be cancelled. It is
the agent''s heartbeat as well.';

create function public.cf_report_command(
  p_id uuid, p_agent text, p_instance uuid, p_state text, p_progress double precision, p_message text, p_exit_code int,
  p_output text
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  c_final constant text[] := '{succeeded,failed,timed_out,cancelled,refused}';
  v_row public.cf_commands;
begin
  perform public.cf_require_agent(p_agent);
  if p_state <> 'running' and not p_state = any (c_final) then
    raise exception 'an agent cannot report %', pg_catalog.left(p_state, 30) using errcode = 'PT400';
  end if;
  select * into v_row from public.cf_commands where id = p_id and agent = p_agent for update;
  if not found then
    raise exception 'agent % has no command %', pg_catalog.left(p_agent, 128), p_id using errcode = 'PT404';
  end if;
  if v_row.instance is distinct from p_instance then
    raise exception 'command % was taken by another life of agent %', p_id, pg_catalog.left(p_agent, 128)
      using errcode = 'PT409';
  end if;
  if v_row.state = p_state and p_state = any (c_final) then
    return public.cf_command_json(v_row);   -- said again, as the answer was not heard
  end if;
  -- A lost one whose agent was only away may still say how it ended.
  if v_row.state not in ('taken', 'running', 'lost') then
    raise exception 'command % has ended already: %', p_id, v_row.state using errcode = 'PT409';
  end if;
  update public.cf_commands set state = p_state, progress = coalesce(p_progress, progress),
    message = pg_catalog.left(coalesce(p_message, message), 500), exit_code = p_exit_code,
    output = coalesce(p_output, output),
    started_at = coalesce(started_at, case when p_state <> 'refused' then pg_catalog.clock_timestamp() end),
    finished_at = case when p_state = any (c_final) then pg_catalog.clock_timestamp() end,
    changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
  where id = p_id returning * into v_row;
  return public.cf_command_json(v_row);
end $$;
comment on function public.cf_report_command(uuid, text, uuid, text, double precision, text, int, text) is
  'Tell that a command runs, how far it is, or how it ended; the same may be told again.';

-- What the control service calls ---------------------------------------------------------------------------------------

create function public.cf_expire_commands() returns int
language plpgsql set search_path = '' as $$
declare
  c_silent constant interval := '30 seconds';   -- agents poll every five
  v_expired int;
  v_lost int;
begin
  update public.cf_commands set state = 'expired', finished_at = pg_catalog.clock_timestamp(),
    message = 'no agent took it in time', changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
  where state = 'queued' and expires_at <= pg_catalog.clock_timestamp();
  get diagnostics v_expired = row_count;
  update public.cf_commands c set state = 'lost', finished_at = pg_catalog.clock_timestamp(),
    message = 'its agent was not heard for 30 s; should it come back, it tells how this ended',
    changed_at = pg_catalog.clock_timestamp(), revision = revision + 1
  from public.cf_agents a
  where c.agent = a.name and c.state in ('taken', 'running') and a.heard_at < pg_catalog.clock_timestamp() - c_silent;
  get diagnostics v_lost = row_count;
  delete from public.cf_commands where finished_at < pg_catalog.now() - interval '90 days';
  delete from public.cf_audit where at < pg_catalog.now() - interval '400 days';
  return v_expired + v_lost;
end $$;
comment on function public.cf_expire_commands() is
  'Say of commands that nobody took in time that they expired, and of those whose agent is silent that they are lost.';

-- Rights ---------------------------------------------------------------------------------------------------------------

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cf_audit', 'cf_agents', 'cf_commands', 'cf_outbox'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
  end loop;
  foreach v_table in array array['cf_agents', 'cf_commands'] loop
    execute format('grant select on public.%I to authenticated', v_table);
    execute format(
      'create policy cf_readers on public.%I for select to authenticated using ((select public.cf_is_reader()))',
      v_table);
  end loop;
end $$;
grant select on public.cf_audit to authenticated;
create policy cf_operators on public.cf_audit for select to authenticated using ((select public.cf_may_control()));

revoke execute on function public.cf_require_operator(), public.cf_require_agent(text),
  public.cf_audit_begin(uuid, text, text, text, jsonb), public.cf_audit_end(uuid, text, jsonb), public.cf_command_changed(),
  public.cf_command_json(public.cf_commands),
  public.cf_submit_command(uuid, text, text, jsonb, text, double precision, double precision),
  public.cf_cancel_command(uuid), public.cf_register_agent(text, uuid, text, jsonb),
  public.cf_poll_commands(text, uuid, uuid[], int),
  public.cf_report_command(uuid, text, uuid, text, double precision, text, int, text), public.cf_expire_commands()
  from public, anon, authenticated;
grant execute on function public.cf_audit_begin(uuid, text, text, text, jsonb), public.cf_audit_end(uuid, text, jsonb),
  public.cf_submit_command(uuid, text, text, jsonb, text, double precision, double precision),
  public.cf_cancel_command(uuid), public.cf_register_agent(text, uuid, text, jsonb),
  public.cf_poll_commands(text, uuid, uuid[], int),
  public.cf_report_command(uuid, text, uuid, text, double precision, text, int, text)
  to authenticated, service_role;
grant execute on function public.cf_require_operator(), public.cf_require_agent(text), public.cf_expire_commands(),
  public.cf_command_json(public.cf_commands)
  to service_role;
