-- The events of a broadcast travel as the text of a JSON array inside the message.
--
-- The official Python client validates a message against each of nine models, and builds every value in it each time:
-- 86 us for an event of 350 bytes as objects, 4 us as text, parsing it afterwards included (docs/realtime.md). In
-- JavaScript it is one JSON.parse more.

create or replace function public.cf_broadcast() returns trigger
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
      -- As long as it is inside a JSON string, with every quote escaped.
      select device, stream, epoch, seq, event, octet_length(pg_catalog.to_json(event)::text) as size
      from (
        select device, stream, epoch, seq,
          public.cf_event_json(id, stream, epoch, seq, kind, occurred_at, payload)::text as event
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
      'events', '[' || coalesce(
        pg_catalog.string_agg(event, ',' order by stream, epoch, seq) filter (where size <= c_part), '') || ']',
      'heads', coalesce(
        pg_catalog.jsonb_object_agg(stream, pg_catalog.jsonb_build_array(epoch, seq) order by epoch, seq)
          filter (where size > c_part), '{}')) as message
    from parts group by topic, part order by topic, part
  ) as messages;
  return null;
end $$;
comment on function public.cf_broadcast() is
  'Sends what was inserted into the feed as private broadcasts on device:DEVICE and on feed, in broadcast mode only:
{events: "[...]", heads: {stream: [epoch, seq]}}; events is the text of a JSON array, heads names events that are too
large to be sent.';
