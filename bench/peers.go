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

// start mounts the run's bucket at dir, through the slow endpoint.
func (p peer) start(ctx context.Context, b *bench, endpoint, dir string) (*mount, error) {
	agentfs, err := filepath.Abs(b.agentfs)
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer(
		"{agentfs}", agentfs, "{endpoint}", endpoint, "{region}", region, "{bucket}", bucket,
		"{access_key}", accessKey, "{secret_key}", secretKey, "{mountpoint}", dir, "{cache}", dir+".cache")
	argv := make([]string, len(p.Command))
	for i, a := range p.Command {
		argv[i] = fill.Replace(a)
	}
	env := []string{
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
		"AWSACCESSKEYID=" + accessKey, "AWSSECRETACCESSKEY=" + secretKey, // s3fs
		"AWS_EC2_METADATA_DISABLED=true",
	}
	for k, v := range p.Env {
		env = append(env, k+"="+fill.Replace(v))
	}
	return serveMount(ctx, p.Name, dir, env, argv...)
}
