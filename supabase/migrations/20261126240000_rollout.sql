-- The rollout in the database: which paths are published to, who has heard it, and mirrors of what was decided.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged. Clients never read their route from here: lowering the
-- ceiling needs no database.

-- Which paths are published to -----------------------------------------------------------------------------------------

create table public.cf_paths (
  id int primary key default 1 check (id = 1),
  revision bigint not null default 1,
  feed boolean not null default true,
  legacy boolean not null default true,
  changed_at timestamptz not null default now()
);
comment on table public.cf_paths is
  'One row. feed: whether Realtime is sent what is written (rows are kept in any case: history and polling go on).
legacy: whether publishers keep a link to the legacy server.';
insert into public.cf_paths default values;

create table public.cf_publishers (
  owner uuid primary key,
  revision bigint not null,
  name text not null default '',
  heard_at timestamptz not null default now()
);
comment on table public.cf_publishers is 'Which revision of cf_paths each owner of streams acts by.';

create function public.cf_push_feed() returns void
language plpgsql security definer set search_path = '' as $$
declare
  v_feed boolean := (select feed from public.cf_paths);
  v_wanted boolean := v_feed and (select mode from public.cf_delivery) = 'changes';
  v_published boolean := exists (
    select from pg_catalog.pg_publication_tables
    where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'cf_events');
begin
  -- Writers wait for the moment that this takes: what a transaction wrote is pushed as it was before, or as it is after.
  lock table public.cf_events in share row exclusive mode;
  if v_wanted and not v_published then
    alter publication supabase_realtime add table public.cf_events;
  elsif v_published and not v_wanted then
    alter publication supabase_realtime drop table public.cf_events;
  end if;
  if v_feed then
    alter table public.cf_events enable trigger cf_broadcast;
  else
    alter table public.cf_events disable trigger cf_broadcast;
  end if;
end $$;
comment on function public.cf_push_feed() is
  'Make the publication and the broadcasts of the feed what cf_delivery and cf_paths say.';

create or replace function public.cf_set_mode(p_mode text default null, p_beat_seconds double precision default null)
returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '10s' as $$
declare
  v_before public.cf_delivery;
  v_after public.cf_delivery;
begin
  if p_mode not in ('changes', 'broadcast') then
    raise exception 'there is no mode %', p_mode using errcode = '22023', hint = 'Choose changes or broadcast.';
  end if;
  select * into v_before from public.cf_delivery for update;
  update public.cf_delivery set mode = coalesce(p_mode, mode), beat_seconds = coalesce(p_beat_seconds, beat_seconds),
    beat = beat + 1, beat_at = pg_catalog.clock_timestamp()
  where (mode, beat_seconds) is distinct from (coalesce(p_mode, mode), coalesce(p_beat_seconds, beat_seconds));
  select * into v_after from public.cf_delivery;
  if v_after.mode <> v_before.mode then
    perform public.cf_push_feed();
  end if;
  if v_after.beat <> v_before.beat and 'broadcast' in (v_before.mode, v_after.mode) then
    perform public.cf_send_beat(v_after);  -- those who listen to broadcasts are told; the others see the row change
  end if;
  return pg_catalog.jsonb_build_object('mode', v_after.mode, 'beat_seconds', v_after.beat_seconds);
end $$;

create function public.cf_set_paths(p_feed boolean, p_legacy boolean) returns bigint
language plpgsql security definer set search_path = '' set lock_timeout = '10s' as $$
declare
  v_before public.cf_paths;
begin
  select * into v_before from public.cf_paths for update;
  if (v_before.feed, v_before.legacy) = (p_feed, p_legacy) then
    return v_before.revision;
  end if;
  update public.cf_paths set revision = revision + 1, feed = p_feed, legacy = p_legacy,
    changed_at = pg_catalog.clock_timestamp();
  if v_before.feed <> p_feed then
    perform public.cf_push_feed();
  end if;
  return v_before.revision + 1;
end $$;
comment on function public.cf_set_paths(boolean, boolean) is
  'Choose which paths are published to; returns the revision that publishers have to acknowledge. The feed obeys in the
same transaction, publishers within seconds.';

create function public.cf_hear(p_owner uuid, p_revision bigint, p_name text default '') returns jsonb
language sql set search_path = '' as $$
  insert into public.cf_publishers (owner, revision, name) values (p_owner, p_revision, p_name)
  on conflict (owner) do update set revision = p_revision, name = p_name, heard_at = pg_catalog.clock_timestamp();
  select pg_catalog.jsonb_build_object('revision', revision, 'feed', feed, 'legacy', legacy) from public.cf_paths
$$;
comment on function public.cf_hear(uuid, bigint, text) is
  'What an owner of streams calls every few seconds: acknowledges the revision that it acts by (0: none yet) and returns
the newest {revision, feed, legacy}.';

create function public.cf_unheard(p_revision bigint) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(pg_catalog.jsonb_agg(distinct coalesce(nullif(p.name, ''), l.owner::text)), '[]')
  from public.cf_leases l left join public.cf_publishers p on p.owner = l.owner
  where not l.released and l.expires_at > pg_catalog.clock_timestamp() and coalesce(p.revision, 0) < p_revision
$$;
comment on function public.cf_unheard(bigint) is
  'The owners that hold a lease now and have not yet acknowledged a revision of cf_paths.';

-- Mirrors: what was decided, for people and dashboards -----------------------------------------------------------------

create table public.cf_rollout_journal (
  installation text not null,
  n bigint not null,
  at timestamptz not null,
  by text not null,
  action text not null,
  cohort text not null,
  before text not null,
  after text not null,
  reason text not null,
  gates jsonb not null,
  state jsonb not null,
  primary key (installation, n)
);
comment on table public.cf_rollout_journal is
  'A mirror of each installation''s journal, which is a file: what the rollout decided, with the evidence of that moment.';

create table public.cf_flags_audit (
  id uuid primary key,
  installation text not null,
  at timestamptz not null,
  who text not null,
  file text not null,
  changes jsonb not null,
  why text not null
);
comment on table public.cf_flags_audit is 'Who changed which flag, when, from what to what, and why.';
create index cf_flags_audit_at on public.cf_flags_audit (at);

-- Rights ---------------------------------------------------------------------------------------------------------------

do $$
declare
  v_table text;
begin
  foreach v_table in array array['cf_paths', 'cf_publishers', 'cf_rollout_journal', 'cf_flags_audit'] loop
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from anon, authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    execute format('grant select on public.%I to authenticated', v_table);
    execute format(
      'create policy cf_readers on public.%I for select to authenticated using ((select public.cf_is_reader()))',
      v_table);
  end loop;
end $$;

revoke execute on function public.cf_push_feed(), public.cf_set_paths(boolean, boolean),
  public.cf_hear(uuid, bigint, text), public.cf_unheard(bigint)
  from public, anon, authenticated;
grant execute on function public.cf_set_paths(boolean, boolean), public.cf_hear(uuid, bigint, text),
  public.cf_unheard(bigint)
  to service_role;
