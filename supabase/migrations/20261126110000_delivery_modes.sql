-- How events reach clients over Realtime: by the feed's row changes, or by broadcast; and the heartbeat of both.
--
-- Plain SQL, in the form the Supabase CLI applies unchanged.

-- The setting, and the newest heartbeat ------------------------------------------------------------------------------

create table public.cf_delivery (
  id int primary key default 1 check (id = 1),
  mode text not null default 'changes' check (mode in ('changes', 'broadcast')),
  beat_seconds double precision not null default 15 check (beat_seconds between 0.5 and 300),
  beat bigint not null default 0,
  beat_at timestamptz not null default now(),
  heads jsonb
);
comment on table public.cf_delivery is
  'One row: how events are delivered, and the newest heartbeat. It is published in both modes, so that a client that
follows row changes learns of a change of mode, too. heads: streams that moved lately, null when they are too many.';
insert into public.cf_delivery default values;

alter table public.cf_delivery enable row level security;
revoke all on public.cf_delivery from anon, authenticated;
grant select, insert, update, delete on public.cf_delivery to service_role;
grant select on public.cf_delivery to authenticated;
create policy cf_readers on public.cf_delivery for select to authenticated using ((select public.cf_is_reader()));

alter publication supabase_realtime add table public.cf_delivery;

-- Broadcast: one message a device and one for all, each with as many events as fit --------------------------------------

create function public.cf_broadcast() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  -- A message stays under 200 kB (hosted Supabase takes 256 kB on its smallest plan): a part ends with the event that
  -- begins before this many bytes, and an event that is larger than this alone is not sent but named, to be read back.
  c_part constant int := 100000;
begin
  if (select mode from public.cf_delivery) is distinct from 'broadcast' then
    return null;
  end if;
  perform realtime.send(message, 'events', topic)
  from (
    with events as materialized (
      select device, stream, epoch, seq, event, octet_length(event::text) as size
      from (
        select device, stream, epoch, seq,
          public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload) as event
        from inserted offset 0
      ) as made
    ), addressed as (
      select 'feed' as topic, stream, epoch, seq, size, event from events
      union all
      select 'device:' || device, stream, epoch, seq, size, event from events
    ), parts as (
      select *, (coalesce(sum(least(size, c_part)) over before, 0) / c_part)::int as part
      from addressed
      window before as (partition by topic order by stream, epoch, seq
        rows between unbounded preceding and 1 preceding)
    )
    select topic, part, pg_catalog.jsonb_build_object(
      'events', coalesce(
        pg_catalog.jsonb_agg(event order by stream, epoch, seq) filter (where size <= c_part), '[]'),
      'heads', coalesce(
        pg_catalog.jsonb_object_agg(stream, pg_catalog.jsonb_build_array(epoch, seq) order by epoch, seq)
          filter (where size > c_part), '{}')) as message
    from parts group by topic, part order by topic, part
  ) as messages;
  return null;
end $$;
comment on function public.cf_broadcast() is
  'Sends what was inserted into the feed as private broadcasts on device:DEVICE and on feed, in broadcast mode only:
{events: [...], heads: {stream: [epoch, seq]}}, heads naming events too large to be sent.';

create trigger cf_broadcast after insert on public.cf_events
referencing new table as inserted for each statement execute function public.cf_broadcast();

create policy cf_readers on realtime.messages for select to authenticated
using (extension = 'broadcast' and (select realtime.topic()) ~ '^(feed|beat|device:.+)$' and (select public.cf_is_reader()));

-- The heartbeat ------------------------------------------------------------------------------------------------------

create function public.cf_send_beat(p_delivery public.cf_delivery) returns void
language sql security definer set search_path = '' as $$
  select realtime.send(pg_catalog.to_jsonb(p_delivery), 'beat', 'beat')
$$;

create function public.cf_beat() returns double precision
language plpgsql security definer set search_path = '' as $$
declare
  c_most constant int := 4000;  -- heads of so many streams stay under 200 kB
  v_now timestamptz := pg_catalog.clock_timestamp();
  v_delivery public.cf_delivery;
begin
  -- Whoever of the owners comes first when the beat is due sends it; nobody waits for another.
  select * into v_delivery from public.cf_delivery
  where beat_at + pg_catalog.make_interval(secs => beat_seconds) <= v_now
  for update skip locked;
  if not found then
    return (
      select case when due > v_now then extract(epoch from due - v_now) else beat_seconds end
      from (select *, beat_at + pg_catalog.make_interval(secs => beat_seconds) as due from public.cf_delivery) as d);
  end if;
  update public.cf_delivery set beat = beat + 1, beat_at = v_now, heads = (
    -- updated_at is the beginning of the owner's transaction: one that was open at the last beat is among these, unless
    -- it took longer than this; what is missed here is found by the client's own, rarer look at all heads.
    select case when count(*) <= c_most
      then coalesce(pg_catalog.jsonb_object_agg(stream, pg_catalog.jsonb_build_array(epoch, seq)), '{}') end
    from (
      select stream, epoch, seq from public.cf_stream_heads
      where updated_at >= v_delivery.beat_at - interval '2 seconds' limit c_most + 1
    ) as moved)
  returning * into v_delivery;
  if v_delivery.mode = 'broadcast' then
    perform public.cf_send_beat(v_delivery);
  end if;
  return v_delivery.beat_seconds;
end $$;
comment on function public.cf_beat() is
  'Send the heartbeat if it is due; returns in how many seconds to call again. Any number of owners may call it: one
beat is sent every beat_seconds, whoever comes first.';

-- Choosing the mode --------------------------------------------------------------------------------------------------

create function public.cf_set_mode(p_mode text default null, p_beat_seconds double precision default null)
returns jsonb
language plpgsql security definer set search_path = '' set lock_timeout = '10s' as $$
declare
  v_before public.cf_delivery;
  v_after public.cf_delivery;
  v_published boolean;
begin
  if p_mode not in ('changes', 'broadcast') then
    raise exception 'there is no mode %', p_mode using errcode = '22023', hint = 'Choose changes or broadcast.';
  end if;
  select * into v_before from public.cf_delivery for update;
  if p_mode <> v_before.mode then
    -- Writers wait for the moment that this takes: what a transaction wrote is pushed in one mode or in the other.
    lock table public.cf_events in share row exclusive mode;
    v_published := exists (
      select from pg_catalog.pg_publication_tables
      where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'cf_events');
    if p_mode = 'changes' and not v_published then
      alter publication supabase_realtime add table public.cf_events;
    elsif p_mode = 'broadcast' and v_published then
      alter publication supabase_realtime drop table public.cf_events;
    end if;
  end if;
  update public.cf_delivery set mode = coalesce(p_mode, mode), beat_seconds = coalesce(p_beat_seconds, beat_seconds),
    beat = beat + 1, beat_at = pg_catalog.clock_timestamp()
  where (mode, beat_seconds) is distinct from (coalesce(p_mode, mode), coalesce(p_beat_seconds, beat_seconds));
  select * into v_after from public.cf_delivery;
  if v_after.beat <> v_before.beat and 'broadcast' in (v_before.mode, v_after.mode) then
    perform public.cf_send_beat(v_after);  -- those who listen to broadcasts are told; the others see the row change
  end if;
  return pg_catalog.jsonb_build_object('mode', v_after.mode, 'beat_seconds', v_after.beat_seconds);
end $$;
comment on function public.cf_set_mode(text, double precision) is
  'Choose how events are delivered (changes, broadcast; null leaves it) and the seconds between heartbeats. Connected
clients follow by themselves and lose nothing. Returns {mode, beat_seconds}.';

-- Reading ------------------------------------------------------------------------------------------------------------

create function public.cf_delivery_state(p_topics text[] default array['global']) returns jsonb
language sql stable set search_path = '' as $$
  select pg_catalog.jsonb_build_object('mode', mode, 'beat', beat, 'beat_seconds', beat_seconds,
    'heads', public.cf_heads(p_topics))
  from public.cf_delivery
$$;
comment on function public.cf_delivery_state(text[]) is
  'The mode, the number of the newest heartbeat, and how far each stream of the topics is, as of one moment; null for
whoever may not read.';

-- The pages that history is read in are bounded in bytes, too: a client asks for 500 events, however large they are.
create or replace function public.cf_events_after(
  p_cursor jsonb default '{}', p_topics text[] default array['global'], p_limit int default 500
) returns jsonb
language sql stable set search_path = '' as $$
  with heads as (
    select h.stream, h.epoch, h.seq,
      coalesce((p_cursor -> h.stream ->> 0)::bigint, 0) as from_epoch,
      coalesce((p_cursor -> h.stream ->> 1)::bigint, 0) as from_seq
    from public.cf_stream_heads h where public.cf_selects(p_topics, h.device, h.category, h.metric_type)
  ), counted as (
    select e.* from heads h
    cross join lateral (
      select * from public.cf_events e
      where e.stream = h.stream and (e.epoch, e.seq) > (h.from_epoch, h.from_seq)
      order by e.epoch, e.seq limit least(p_limit, 1000)
    ) as e
    where (h.epoch, h.seq) > (h.from_epoch, h.from_seq)
    order by e.stream, e.epoch, e.seq limit least(p_limit, 1000)
  ), measured as (
    select *, coalesce(sum(pg_catalog.pg_column_size(payload)) over (order by stream, epoch, seq
      rows between unbounded preceding and 1 preceding), 0) as before
    from counted
  ), page as (
    select * from measured where before < 2000000
  )
  select pg_catalog.jsonb_build_object(
    'events', coalesce((
      select pg_catalog.jsonb_agg(
        public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload) order by stream, epoch, seq)
      from page), '[]'),
    'heads', (select coalesce(pg_catalog.jsonb_object_agg(stream, pg_catalog.jsonb_build_array(epoch, seq)), '{}')
      from heads),
    'more', (select count(*) from counted) >= least(p_limit, 1000)
      or (select count(*) from page) < (select count(*) from counted))
$$;
comment on function public.cf_events_after(jsonb, text[], int) is
  'What a client missed: at most p_limit (1000) retained events of the topics after the cursor, and about 2 MB of them
as stored, ordered by stream, epoch and seq; heads as of the same moment; more = true when the page is full: advance
the cursor and ask again.';

-- Rights -------------------------------------------------------------------------------------------------------------

revoke execute on function public.cf_broadcast(), public.cf_beat(), public.cf_send_beat(public.cf_delivery),
  public.cf_set_mode(text, double precision)
  from public, anon, authenticated;
grant execute on function public.cf_beat(), public.cf_set_mode(text, double precision) to service_role;
