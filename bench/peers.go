package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// peer is a mount of S3 that part "store" measures.
type peer struct {
	Name    string            `yaml:"-"`
	Command []string          `yaml:"command"`
	Sync    []string          `yaml:"sync"`
	Env     map[string]string `yaml:"env"`
}

//go:embed peers.yaml
var builtinPeers []byte

// loadPeers returns the peers that were asked for and are there.
func (b *bench) loadPeers() ([]peer, error) {
	peers, err := parsePeers(builtinPeers, "peers.yaml")
	if err != nil {
		return nil, err
	}
	if b.peers != "" {
		text, err := os.ReadFile(b.peers)
		if err != nil {
			return nil, err
		}
		more, err := parsePeers(text, b.peers)
		if err != nil {
			return nil, err
		}
		peers = append(peers, more...)
	}
	agentfs, err := filepath.Abs(b.agentfs)
	if err != nil {
		return nil, err
	}
	var there []peer
	for _, p := range peers {
		if !b.wants(p.Name) {
			continue
		}
		command := strings.ReplaceAll(p.Command[0], "{agentfs}", agentfs)
		if _, err := exec.LookPath(command); err != nil {
			b.note("%s was left out: there is no %s here", p.Name, filepath.Base(command))
			continue
		}
		there = append(there, p)
	}
	return there, nil
}

// parsePeers reads peers from YAML, in the order of their names.
func parsePeers(text []byte, source string) ([]peer, error) {
	m := map[string]peer{}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField()).Decode(&m); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	var peers []peer
	for _, name := range slices.Sorted(maps.Keys(m)) {
		p := m[name]
		if len(p.Command) == 0 {
			return nil, fmt.Errorf("%s: %s has no command", source, name)
		}
		p.Name = name
		peers = append(peers, p)
	}
	return peers, nil
}

// hasOptions reports whether options of a route have a place in the command.
func (p peer) hasOptions() bool {
	return slices.ContainsFunc(p.Command, func(a string) bool { return strings.Contains(a, "{options}") })
}

// start mounts the run's bucket at dir, through the slow endpoint, with further
// options of the route and more variables in the environment.
func (p peer) start(ctx context.Context, b *bench, endpoint, dir, options string, more ...string) (*mount, error) {
	agentfs, err := filepath.Abs(b.agentfs)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer(
		"{agentfs}", agentfs, "{endpoint}", endpoint, "{region}", region, "{bucket}", bucket,
		"{access_key}", accessKey, "{secret_key}", secretKey, "{mountpoint}", dir, "{cache}", dir+".cache", "{options}", options)
	argv := fillAll(fill, p.Command)
	env := []string{
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
		"AWSACCESSKEYID=" + accessKey, "AWSSECRETACCESSKEY=" + secretKey, // s3fs
		"AWS_EC2_METADATA_DISABLED=true",
	}
	for k, v := range p.Env {
		env = append(env, k+"="+fill.Replace(v))
	}
	return serveMount(ctx, p.Name, dir, append(env, more...), argv...)
}

// sync waits until the store has everything, by the mount's own word; at once if
// it has no command for that.
func (p peer) sync(ctx context.Context, b *bench, dir string) error {
	if p.Sync == nil {
		return nil
	}
	agentfs, err := filepath.Abs(b.agentfs)
	if err != nil {
		return err
	}
	_, err = tool(ctx, fillAll(strings.NewReplacer("{agentfs}", agentfs, "{mountpoint}", dir), p.Sync)...)
	return err
}

func fillAll(fill *strings.Replacer, words []string) []string {
	argv := make([]string, len(words))
	for i, a := range words {
		argv[i] = fill.Replace(a)
	}
	return argv
}
