// franz-go: the newest versions of everything, from a client that shares no code with the Java one.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"clients/scenario"
)

var compression = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

type client struct {
	bootstrap []string
	topic     string
}

func (c client) connect(options ...kgo.Opt) *kgo.Client {
	connected, err := kgo.NewClient(append(options, kgo.SeedBrokers(c.bootstrap...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		log.Fatal(err)
	}
	return connected
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), scenario.Wait)
}

func (c client) admin(work func(context.Context, *kadm.Client) error) error {
	connected := c.connect()
	defer connected.Close()
	ctx, cancel := limit()
	defer cancel()
	return work(ctx, kadm.NewClient(connected))
}

func (c client) Create() error {
	return c.admin(func(ctx context.Context, admin *kadm.Client) error {
		if _, err := admin.CreateTopic(ctx, scenario.Partitions, scenario.Replication, nil, c.topic); err != nil {
			return err
		}
		return scenario.WaitFor("3 partitions of 3 replicas have leaders", func() (bool, error) {
			topics, err := admin.ListTopics(ctx, c.topic)
			found := topics[c.topic].Partitions
			ready := len(found) == scenario.Partitions
			for _, p := range found {
				ready = ready && p.Leader >= 0 && len(p.Replicas) == scenario.Replication
			}
			return ready, err
		})
	})
}

func (c client) Produce(codec string, records []scenario.Record) error {
	producer := c.connect(kgo.ProducerBatchCompression(compression[codec]))
	defer producer.Close()
	ctx, cancel := limit()
	defer cancel()
	var sent []*kgo.Record
	for _, r := range records {
		record := &kgo.Record{Topic: c.topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
		}
		sent = append(sent, record)
	}
	return producer.ProduceSync(ctx, sent...).FirstErr()
}

type member struct {
	*kgo.Client
	topic string
}

func (c client) Join(group string) (scenario.Member, error) {
	joined := c.connect(kgo.ConsumerGroup(group), kgo.ConsumeTopics(c.topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	return member{joined, c.topic}, nil
}

func (m member) Take(count int, within time.Duration) ([]scenario.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var got []scenario.Record
	for len(got) < count {
		fetches := m.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) {
			record := scenario.Record{Partition: r.Partition, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, scenario.Header{Key: h.Key, Value: string(h.Value)})
			}
			got = append(got, record)
		})
		if err := fetches.Err(); err != nil {
			return got, fmt.Errorf("%d of %d records: %w", len(got), count, err)
		}
	}
	return got, nil
}

func (m member) Commit() error {
	ctx, cancel := limit()
	defer cancel()
	return m.CommitUncommittedOffsets(ctx)
}

// Assigned is what it reads from, which is what it is assigned.
func (m member) Assigned() (assigned []int32) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	m.PollFetches(ctx)
	for p := range m.UncommittedOffsets()[m.topic] {
		assigned = append(assigned, p)
	}
	return assigned
}

func (m member) Close() error {
	m.Client.Close()
	return nil
}

func (c client) Committed(group string) (ends [scenario.Partitions]int64, err error) {
	err = c.admin(func(ctx context.Context, admin *kadm.Client) error {
		committed, err := admin.FetchOffsets(ctx, group)
		return errors.Join(err, each(&ends, func(p int32) (int64, bool) {
			at, ok := committed.Lookup(c.topic, p)
			return at.At, ok
		}))
	})
	return ends, err
}

func (c client) Offsets() (begins, ends, since [scenario.Partitions]int64, err error) {
	err = c.admin(func(ctx context.Context, admin *kadm.Client) error {
		first, err1 := admin.ListStartOffsets(ctx, c.topic)
		last, err2 := admin.ListEndOffsets(ctx, c.topic)
		after, err3 := admin.ListOffsetsAfterMilli(ctx, 1, c.topic)
		listed := func(offsets kadm.ListedOffsets) func(int32) (int64, bool) {
			return func(p int32) (int64, bool) {
				at, ok := offsets.Lookup(c.topic, p)
				return at.Offset, ok && at.Err == nil
			}
		}
		return errors.Join(err1, err2, err3, each(&begins, listed(first)), each(&ends, listed(last)), each(&since, listed(after)))
	})
	return begins, ends, since, err
}

// each fills in what was told of each partition.
func each(offsets *[scenario.Partitions]int64, told func(int32) (int64, bool)) error {
	for p := range offsets {
		at, ok := told(int32(p))
		if !ok {
			return fmt.Errorf("partition %d: no offset was told", p)
		}
		offsets[p] = at
	}
	return nil
}

func (c client) Send(told *scenario.Stream) error {
	// By itself it takes another producer id where it is told that a sequence number is out of order, and says nothing.
	producer := c.connect(kgo.StopProducerOnDataLossDetected())
	defer producer.Close()
	for i := range told.Sent {
		record := &kgo.Record{Topic: c.topic, Partition: int32(i % scenario.Partitions), Value: strconv.AppendInt(nil, int64(i), 10)}
		producer.Produce(context.Background(), record, func(_ *kgo.Record, err error) { told.Told(i, err) })
		told.Pace(i)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return producer.Flush(ctx)
}

func main() {
	scenario.Main("franz-go", "github.com/twmb/franz-go", func(bootstrap []string, topic string) scenario.Client {
		return client{bootstrap, topic}
	})
}
